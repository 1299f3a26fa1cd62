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
from steerlab.calibration import Calibration, calibrate
from steerlab.control_families import covariance_matched, orthogonal_directions, other_task, ready, shuffled_labels
from steerlab.controls import ControlResult, random_control
from steerlab.diagnostics import ContrastDiagnostics, contrast_diagnostics
from steerlab.directions import Direction, mean_difference, random_directions
from steerlab.eas import EASResult, run_eas
from steerlab.eas_baselines import EASComparison, compare_eas
from steerlab.evolution import EvolvedVector, evolve_vector
from steerlab.experiments import Experiment, contrast_directions, run_experiment
from steerlab.halving import HalvingResult, successive_halving
from steerlab.interventions import ALPHAS, steer
from steerlab.loading import load_model
from steerlab.magnitudes import Magnitudes, token_magnitudes
from steerlab.matching import MatchedControls, match_kl
from steerlab.neutral import NEUTRAL_TEXTS
from steerlab.previews import Preview, preview
from steerlab.published import Audit
from steerlab.published import audit as published_audit
from steerlab.runs import load_experiment, save_experiment
from steerlab.side_effects import SideEffects, changed_predictions, side_effects, side_texts
from steerlab.significance import Significance
from steerlab.statistics import ControlOutcomes, controls_from_frame
from steerlab.store import load_direction, save_direction, write_report
from steerlab.sweeps import SweepResult, sweep
from steerlab.tasks import Balanced, Evaluation, Problem, Task, balance, evaluate, load_task
from steerlab.watchers import Watcher

__version__ = version("steerlab")

__all__ = [
    "ALPHAS",
    "NEUTRAL_TEXTS",
    "Activations",
    "Audit",
    "Balanced",
    "Calibration",
    "ContrastDiagnostics",
    "ControlOutcomes",
    "ControlResult",
    "Direction",
    "EASComparison",
    "EASResult",
    "Evaluation",
    "EvolvedVector",
    "Experiment",
    "HalvingResult",
    "Magnitudes",
    "MatchedControls",
    "Preview",
    "Problem",
    "SideEffects",
    "Significance",
    "SweepResult",
    "Task",
    "Watcher",
    "balance",
    "cache_activations",
    "calibrate",
    "changed_predictions",
    "compare_eas",
    "contrast_diagnostics",
    "contrast_directions",
    "controls_from_frame",
    "covariance_matched",
    "evaluate",
    "evolve_vector",
    "load_activations",
    "load_direction",
    "load_experiment",
    "load_model",
    "load_task",
    "match_kl",
    "mean_difference",
    "orthogonal_directions",
    "other_task",
    "plots",
    "preview",
    "published_audit",
    "random_control",
    "random_directions",
    "ready",
    "run_eas",
    "run_experiment",
    "save_direction",
    "save_experiment",
    "shuffled_labels",
    "side_effects",
    "side_texts",
    "statistics",
    "steer",
    "successive_halving",
    "sweep",
    "token_magnitudes",
    "write_report",
]
