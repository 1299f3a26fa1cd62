"""The options that everything which steers has in common, each described once; see `steerlab._checks.takes_options`."""

from typing import Annotated, TypedDict

import torch

from steerlab._checks import Option
from steerlab.activations.positions import Positions
from steerlab.models.memory import Limits, Shown
from steerlab.steering import OPERATORS
from steerlab.steering.operators import Operator
from steerlab.tasks.scorers import Scorer


class Acting(Limits, total=False):
    """How directions act."""

    operator: Annotated[str | Operator, Option("add", f"{', '.join(OPERATORS)}, or a function of (resid, vector, alpha)")]
    positions: Annotated[Positions, Option("all", '"all", "last" (of the prompt), "prompt", "generated", an index or indices')]


class Scoring(Acting, total=False):
    """How directions act, and how answers are judged."""

    scorer: Annotated[str | Scorer | None, Option(None, "how answers are judged; default the task's own")]


class ActedAt(TypedDict, total=False):
    """Where directions act."""

    layer: Annotated[int | None, Option(None, "act at this block instead of where the directions were measured")]
    site: Annotated[str | None, Option(None, "act at this hook point instead of where the directions were measured")]


class TextOptions(Acting, Shown, total=False):
    """Options of what runs texts under interventions."""


class SteerOptions(TextOptions, ActedAt, total=False):
    """Options of what steers texts with directions that may act elsewhere than where they were measured."""


class ScoreOptions(Scoring, Shown, total=False):
    """Options of what steers problems and scores them."""


class GridOptions(ScoreOptions, ActedAt, total=False):
    """Options of what scores problems under directions that may act elsewhere than where they were measured."""


class Precise(TypedDict, total=False):
    """In which numbers."""

    precision: Annotated[
        str | torch.dtype | None,
        Option(None, 'run in this dtype, e.g. "bfloat16"; the result says how many predictions of a sample differ from the model\'s own'),
    ]


class CellOptions(ScoreOptions, Precise, total=False):
    """Options of the engine."""


class JobOptions(TextOptions, Precise, total=False):
    """Options of the main job."""


class RunOptions(CellOptions, ActedAt, total=False):
    """Options of a whole run, such as a sweep."""
