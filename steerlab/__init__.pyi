from . import plots as plots, statistics as statistics, tasks as tasks
from ._checks import InputError as InputError
from .activations.cache import (
    Activations as Activations,
    as_activations as as_activations,
    cache_activations as cache_activations,
    load_activations as load_activations,
)
from .aft.aft import (
    LearnedVector as LearnedVector,
    LearnedVectors as LearnedVectors,
    learn_vector as learn_vector,
    learn_vectors as learn_vectors,
)
from .aft.context import ContextVector as ContextVector, learn_context_vector as learn_context_vector
from .aft.evolution import EvolvedVector as EvolvedVector, evolve_vector as evolve_vector
from .aft.multilayer import MultiLayerVector as MultiLayerVector, learn_multilayer as learn_multilayer
from .aft.selection import (
    AdaptiveResult as AdaptiveResult,
    Refinement as Refinement,
    adaptive_aft as adaptive_aft,
    self_refine as self_refine,
)
from .controls.control import (
    ControlResult as ControlResult,
    MatchedControls as MatchedControls,
    match_kl as match_kl,
    random_control as random_control,
)
from .controls.pipelines import Choice as Choice, PipelineControl as PipelineControl, pipeline_control as pipeline_control
from .controls.side_effects import (
    SideEffects as SideEffects,
    changed_predictions as changed_predictions,
    side_effects as side_effects,
    side_texts as side_texts,
)
from .controls.texts import NEUTRAL_TEXTS as NEUTRAL_TEXTS
from .directions import ESTIMATORS as ESTIMATORS
from .directions.components import (
    ica_direction as ica_direction,
    pca_direction as pca_direction,
    singular_direction as singular_direction,
    singular_directions as singular_directions,
)
from .directions.composing import (
    average_directions as average_directions,
    combine as combine,
    cosine_table as cosine_table,
    orthogonalise as orthogonalise,
    project_out as project_out,
    scale_positions as scale_positions,
)
from .directions.diagnostics import ContrastDiagnostics as ContrastDiagnostics, contrast_diagnostics as contrast_diagnostics
from .directions.direction import Direction as Direction
from .directions.estimators import (
    contrastive_direction as contrastive_direction,
    lda_direction as lda_direction,
    mean_difference as mean_difference,
    probe_direction as probe_direction,
    whitened_mean_difference as whitened_mean_difference,
)
from .directions.function_vectors import (
    function_vector as function_vector,
    prompt_contrast as prompt_contrast,
    reasoning_pairs as reasoning_pairs,
)
from .directions.prompt_vectors import PromptVectors as PromptVectors
from .directions.random import (
    covariance_matched as covariance_matched,
    given_controls as given_controls,
    orthogonal_directions as orthogonal_directions,
    other_task as other_task,
    random_direction as random_direction,
    random_directions as random_directions,
    shuffled_label_direction as shuffled_label_direction,
    shuffled_labels as shuffled_labels,
)
from .models.loading import load_model as load_model
from .reports.blocks import Drawing as Drawing, Examples as Examples, Report as Report, Table as Table
from .reports.evidence import Significance as Significance
from .reports.export import export_report as export_report
from .reports.report import write_report as write_report
from .reports.runs import load_experiment as load_experiment, save_experiment as save_experiment
from .statistics.controls import ControlOutcomes as ControlOutcomes, controls_from_frame as controls_from_frame
from .steering import ALPHAS as ALPHAS, OPERATORS as OPERATORS
from .steering.interventions import steer as steer
from .steering.operators import (
    adaptive as adaptive,
    conditional as conditional,
    midpoint as midpoint,
    norm_preserving as norm_preserving,
    projections as projections,
    rotate_by as rotate_by,
)
from .steering.prompt_rules import propagated_vectors as propagated_vectors, recursive_vectors as recursive_vectors
from .steering.routers import (
    KeywordRouter as KeywordRouter,
    NearestMean as NearestMean,
    ReachProjection as ReachProjection,
    nearest_mean as nearest_mean,
)
from .studies.context_comparison import ContextComparison as ContextComparison, compare_context_vectors as compare_context_vectors
from .studies.eas.comparison import EASComparison as EASComparison, compare_eas as compare_eas
from .studies.eas.stream import EASResult as EASResult, run_eas as run_eas
from .studies.eas.watcher import Watcher as Watcher
from .studies.grid import (
    GridJob as GridJob,
    Universality as Universality,
    model_task_grid as model_task_grid,
    run_grid as run_grid,
    run_job as run_job,
)
from .studies.method_comparison import MethodComparison as MethodComparison, compare_methods as compare_methods
from .studies.mixtures import UniversalBooster as UniversalBooster, universal_booster as universal_booster
from .studies.multiverse import (
    Multiverse as Multiverse,
    Specification as Specification,
    multiverse as multiverse,
    specifications as specifications,
)
from .studies.plans import (
    ExperimentPlan as ExperimentPlan,
    load_plan as load_plan,
    plan_experiment as plan_experiment,
    save_plan as save_plan,
)
from .studies.protocol import Experiment as Experiment, contrast_directions as contrast_directions, run_experiment as run_experiment
from .studies.protocols import ProtocolComparison as ProtocolComparison, compare_protocols as compare_protocols
from .studies.repeats import Repeats as Repeats, repeat_experiment as repeat_experiment
from .studies.stability import SeedStability as SeedStability, seed_stability as seed_stability
from .studies.transfer import TransferResult as TransferResult, transfer as transfer
from .sweeps.candidates import Cell as Cell, Grid as Grid, Shortlist as Shortlist, relative_dose as relative_dose
from .sweeps.changes import FailureAnalysis as FailureAnalysis, changed_problems as changed_problems, failure_analysis as failure_analysis
from .sweeps.choosing import (
    COEFFICIENTS as COEFFICIENTS,
    CoefficientGrid as CoefficientGrid,
    HalvingResult as HalvingResult,
    coefficient_grid as coefficient_grid,
    successive_halving as successive_halving,
)
from .sweeps.preview import Preview as Preview, preview as preview
from .sweeps.routing import RoutedResult as RoutedResult, evaluate_routed as evaluate_routed
from .sweeps.sweep import SweepResult as SweepResult, sweep as sweep
from .tasks.evaluation import Balanced as Balanced, Evaluation as Evaluation, balance as balance, evaluate as evaluate
from .tasks.lengths import fit_to_context as fit_to_context
from .tasks.loaders import load_task as load_task
from .tasks.templates import TASKS as TASKS
from .tasks.problems import Problem as Problem, Task as Task
from .tokens.magnitudes import (
    CriticalTokens as CriticalTokens,
    Magnitudes as Magnitudes,
    critical_tokens as critical_tokens,
    token_magnitudes as token_magnitudes,
)
from .validation.calibration import Calibration as Calibration, calibrate as calibrate
from .validation.published.auditing import Audit as Audit, published_audit as published_audit
from .vectors.files import (
    load_context_vector as load_context_vector,
    load_direction as load_direction,
    save_context_vector as save_context_vector,
    save_direction as save_direction,
)

__version__: str
