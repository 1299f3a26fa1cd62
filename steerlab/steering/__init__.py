"""Steering, and the engine that runs many interventions over one batch.

- `interventions`: `steer`; what happens to the stream, where, and at which alpha.
- `operators`, `routers`: what a vector does to the stream (`OPERATORS` has the named ones), conditions, rules for alpha; which direction for which problem.
- `cells`, `variants`, `wavefront`, `generation`: the engine: what is run, which part of it, from which block on; steered generation.
- `options`: how a model is run and where directions act: the options that many functions share.
- `distributions`: next-token distributions of texts under many interventions.
- `prompt_rules`: vectors made from each prompt by a rule.
- `work`: the kinds of runs that a job is made of, for forecasts.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from steerlab._checks import Choices

if TYPE_CHECKING:
    from torch import Tensor

ALPHAS: tuple[float, ...] = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)

OPERATORS: "Choices[Callable[[Tensor, Tensor, Tensor], Tensor]]" = Choices(
    {
        "add": ("steerlab.steering.operators:add", "adds alpha times the vector"),
        "ablate": ("steerlab.steering.operators:ablate", "takes away alpha times the component along the vector"),
        "clamp": ("steerlab.steering.operators:clamp", "sets the component along the vector to alpha times the vector's norm"),
        "rotate": ("steerlab.steering.operators:rotate", "turns the stream towards stream + alpha times the vector, at the stream's norm"),
    }
)
"""How a vector acts on the stream, by name."""
