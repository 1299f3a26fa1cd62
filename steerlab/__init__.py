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
from steerlab._checks import InputError
from steerlab.activations.cache import Activations, as_activations, cache_activations, load_activations
from steerlab.aft.aft import LearnedVector, LearnedVectors, learn_vector, learn_vectors
from steerlab.aft.context import ContextVector, learn_context_vector
from steerlab.aft.evolution import EvolvedVector, evolve_vector
from steerlab.aft.multilayer import MultiLayerVector, learn_multilayer
from steerlab.aft.selection import AdaptiveResult, Refinement, adaptive_aft, self_refine
from steerlab.controls.control import ControlResult, MatchedControls, match_kl, random_control
from steerlab.controls.side_effects import SideEffects, changed_predictions, side_effects, side_texts
from steerlab.controls.texts import NEUTRAL_TEXTS
from steerlab.directions.components import ica_direction, pca_direction, singular_direction, singular_directions
from steerlab.directions.composing import average_directions, combine, cosine_table, orthogonalise, project_out, scale_positions
from steerlab.directions.diagnostics import ContrastDiagnostics, contrast_diagnostics
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import (
    ESTIMATORS,
    contrastive_direction,
    lda_direction,
    mean_difference,
    probe_direction,
    whitened_mean_difference,
)
from steerlab.directions.function_vectors import function_vector, prompt_contrast, reasoning_pairs
from steerlab.directions.prompt_vectors import PromptVectors
from steerlab.directions.random import (
    covariance_matched,
    given_controls,
    orthogonal_directions,
    other_task,
    random_direction,
    random_directions,
    shuffled_label_direction,
    shuffled_labels,
)
from steerlab.models.loading import load_model
from steerlab.reports.blocks import Drawing, Examples, Report, Table
from steerlab.reports.evidence import Significance
from steerlab.reports.export import export_report
from steerlab.reports.report import write_report
from steerlab.reports.runs import load_experiment, save_experiment
from steerlab.statistics.controls import ControlOutcomes, controls_from_frame
from steerlab.steering.interventions import ALPHAS, steer
from steerlab.steering.operators import adaptive, conditional, midpoint, norm_preserving, projections, rotate_by
from steerlab.steering.prompt_rules import propagated_vectors, recursive_vectors
from steerlab.steering.routers import KeywordRouter, NearestMean, ReachProjection, nearest_mean
from steerlab.studies.context_comparison import ContextComparison, compare_context_vectors
from steerlab.studies.eas.comparison import EASComparison, compare_eas
from steerlab.studies.eas.stream import EASResult, run_eas
from steerlab.studies.eas.watcher import Watcher
from steerlab.studies.grid import GridJob, Universality, model_task_grid, run_grid, run_job
from steerlab.studies.method_comparison import MethodComparison, compare_methods
from steerlab.studies.mixtures import UniversalBooster, universal_booster
from steerlab.studies.protocol import Experiment, contrast_directions, run_experiment
from steerlab.studies.protocols import ProtocolComparison, compare_protocols
from steerlab.studies.stability import SeedStability, seed_stability
from steerlab.studies.transfer import TransferResult, transfer
from steerlab.sweeps.changes import FailureAnalysis, changed_problems, failure_analysis
from steerlab.sweeps.choosing import COEFFICIENTS, CoefficientGrid, HalvingResult, coefficient_grid, successive_halving
from steerlab.sweeps.preview import Preview, preview
from steerlab.sweeps.routing import RoutedResult, evaluate_routed
from steerlab.sweeps.sweep import SweepResult, sweep
from steerlab.tasks.evaluation import Balanced, Evaluation, balance, evaluate
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.loaders import load_task
from steerlab.tasks.problems import Problem, Task
from steerlab.tokens.magnitudes import CriticalTokens, Magnitudes, critical_tokens, token_magnitudes
from steerlab.validation.calibration import Calibration, calibrate
from steerlab.validation.published.auditing import Audit
from steerlab.validation.published.auditing import audit as published_audit
from steerlab.vectors.files import load_context_vector, load_direction, save_context_vector, save_direction

__version__ = version("steerlab")

__all__ = [
    "ALPHAS",
    "COEFFICIENTS",
    "ESTIMATORS",
    "NEUTRAL_TEXTS",
    "Activations",
    "AdaptiveResult",
    "Audit",
    "Balanced",
    "Calibration",
    "CoefficientGrid",
    "ContextComparison",
    "ContextVector",
    "ContrastDiagnostics",
    "ControlOutcomes",
    "ControlResult",
    "CriticalTokens",
    "Direction",
    "Drawing",
    "EASComparison",
    "EASResult",
    "Evaluation",
    "EvolvedVector",
    "Examples",
    "Experiment",
    "FailureAnalysis",
    "GridJob",
    "HalvingResult",
    "InputError",
    "KeywordRouter",
    "LearnedVector",
    "LearnedVectors",
    "Magnitudes",
    "MatchedControls",
    "MethodComparison",
    "MultiLayerVector",
    "NearestMean",
    "Preview",
    "Problem",
    "PromptVectors",
    "ProtocolComparison",
    "ReachProjection",
    "Refinement",
    "Report",
    "RoutedResult",
    "SeedStability",
    "SideEffects",
    "Significance",
    "SweepResult",
    "Table",
    "Task",
    "TransferResult",
    "UniversalBooster",
    "Universality",
    "Watcher",
    "adaptive",
    "adaptive_aft",
    "as_activations",
    "average_directions",
    "balance",
    "cache_activations",
    "calibrate",
    "changed_predictions",
    "changed_problems",
    "coefficient_grid",
    "combine",
    "compare_context_vectors",
    "compare_eas",
    "compare_methods",
    "compare_protocols",
    "conditional",
    "contrast_diagnostics",
    "contrast_directions",
    "contrastive_direction",
    "controls_from_frame",
    "cosine_table",
    "covariance_matched",
    "critical_tokens",
    "evaluate",
    "evaluate_routed",
    "evolve_vector",
    "export_report",
    "failure_analysis",
    "fit_to_context",
    "function_vector",
    "given_controls",
    "ica_direction",
    "lda_direction",
    "learn_context_vector",
    "learn_multilayer",
    "learn_vector",
    "learn_vectors",
    "load_activations",
    "load_context_vector",
    "load_direction",
    "load_experiment",
    "load_model",
    "load_task",
    "match_kl",
    "mean_difference",
    "midpoint",
    "model_task_grid",
    "nearest_mean",
    "norm_preserving",
    "orthogonal_directions",
    "orthogonalise",
    "other_task",
    "pca_direction",
    "plots",
    "preview",
    "probe_direction",
    "project_out",
    "projections",
    "prompt_contrast",
    "propagated_vectors",
    "published_audit",
    "random_control",
    "random_direction",
    "random_directions",
    "reasoning_pairs",
    "recursive_vectors",
    "rotate_by",
    "run_eas",
    "run_experiment",
    "run_grid",
    "run_job",
    "save_context_vector",
    "save_direction",
    "save_experiment",
    "scale_positions",
    "seed_stability",
    "self_refine",
    "shuffled_label_direction",
    "shuffled_labels",
    "side_effects",
    "side_texts",
    "singular_direction",
    "singular_directions",
    "statistics",
    "steer",
    "successive_halving",
    "sweep",
    "token_magnitudes",
    "transfer",
    "universal_booster",
    "whitened_mean_difference",
    "write_report",
]
