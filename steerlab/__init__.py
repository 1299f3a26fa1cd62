"""steerlab: does this direction in a language model's residual stream cause that behaviour?

Functions take a plain TransformerLens model first, then data, then options; results are frozen dataclasses around tidy
pandas frames.

    import steerlab as sl

    model = sl.load_model("tiny-arithmetic")
    task = sl.load_task("arithmetic")
    evaluation = sl.evaluate(model, task.train)
"""

from importlib.metadata import version

from steerlab import plots, statistics
from steerlab.activations import Activations, cache_activations, load_activations
from steerlab.controls import ControlResult, random_control
from steerlab.directions import Direction, mean_difference, random_directions
from steerlab.experiments import Experiment, contrast_directions, run_experiment
from steerlab.halving import HalvingResult, successive_halving
from steerlab.interventions import ALPHAS, steer
from steerlab.loading import load_model
from steerlab.magnitudes import Magnitudes, token_magnitudes
from steerlab.previews import Preview, preview
from steerlab.runs import load_experiment, save_experiment
from steerlab.significance import Significance
from steerlab.store import load_direction, save_direction, write_report
from steerlab.sweeps import SweepResult, sweep
from steerlab.tasks import Balanced, Evaluation, Problem, Task, balance, evaluate, load_task

__version__ = version("steerlab")

__all__ = [
    "ALPHAS",
    "Activations",
    "Balanced",
    "ControlResult",
    "Direction",
    "Evaluation",
    "Experiment",
    "HalvingResult",
    "Magnitudes",
    "Preview",
    "Problem",
    "Significance",
    "SweepResult",
    "Task",
    "balance",
    "cache_activations",
    "contrast_directions",
    "evaluate",
    "load_activations",
    "load_direction",
    "load_experiment",
    "load_model",
    "load_task",
    "mean_difference",
    "plots",
    "preview",
    "random_control",
    "random_directions",
    "run_experiment",
    "save_direction",
    "save_experiment",
    "statistics",
    "steer",
    "successive_halving",
    "sweep",
    "token_magnitudes",
    "write_report",
]
