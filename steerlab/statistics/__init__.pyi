from ._format import format_p as format_p
from .controls import (
    ControlOutcomes as ControlOutcomes,
    ControlTests as ControlTests,
    PredictionTest as PredictionTest,
    RankTest as RankTest,
    cohens_d as cohens_d,
    controls_from_frame as controls_from_frame,
    one_sample_t_test as one_sample_t_test,
    prediction_test as prediction_test,
    rank_test as rank_test,
)
from .dose_models import (
    Asymmetry as Asymmetry,
    IsotonicFit as IsotonicFit,
    LinearFit as LinearFit,
    SpearmanCorrelation as SpearmanCorrelation,
    asymmetry as asymmetry,
    isotonic_fit as isotonic_fit,
    linear_fit as linear_fit,
    spearman as spearman,
)
from .dose_response import (
    DoseResponse as DoseResponse,
    Reversal as Reversal,
    TrendTest as TrendTest,
    dose_response as dose_response,
    largest_reversal as largest_reversal,
    trend_test as trend_test,
)
from .effects import (
    AntiSteerable as AntiSteerable,
    EffectSize as EffectSize,
    OddsRatio as OddsRatio,
    anti_steerable_share as anti_steerable_share,
    cohens_h as cohens_h,
    discordant_odds_ratio as discordant_odds_ratio,
    effect_size as effect_size,
    paired_effect_size as paired_effect_size,
    pareto_front as pareto_front,
)
from .equivalence import EquivalenceTest as EquivalenceTest, equivalence_test as equivalence_test
from .groups import DesignEffect as DesignEffect, design_effect as design_effect
from .intervals import (
    Bootstrap as Bootstrap,
    Interval as Interval,
    bootstrap as bootstrap,
    clopper_pearson_interval as clopper_pearson_interval,
    paired_interval as paired_interval,
    wilson_interval as wilson_interval,
)
from .multiplicity import (
    MaxStatisticTest as MaxStatisticTest,
    benjamini_hochberg as benjamini_hochberg,
    holm as holm,
    max_statistic_test as max_statistic_test,
    rank_tests as rank_tests,
)
from .paired import (
    SignFlipTest as SignFlipTest,
    SignTest as SignTest,
    WilcoxonTest as WilcoxonTest,
    paired_t_test as paired_t_test,
    sign_flip_test as sign_flip_test,
    sign_test as sign_test,
    wilcoxon_test as wilcoxon_test,
)
from .pooling import PooledEffect as PooledEffect, pooled_effect as pooled_effect
from .power import (
    Plan as Plan,
    detectable_change as detectable_change,
    plan as plan,
    power_curve as power_curve,
    power_of_sign_test as power_of_sign_test,
    power_of_t_test as power_of_t_test,
    smallest_detectable_change as smallest_detectable_change,
)
from .separability import (
    AUC as AUC,
    DirectionalAgreement as DirectionalAgreement,
    SplitHalf as SplitHalf,
    auc as auc,
    cross_validated_auc as cross_validated_auc,
    directional_agreement as directional_agreement,
    effective_dimension as effective_dimension,
    effective_size as effective_size,
    split_half_cosines as split_half_cosines,
)
from .sequential import SequentialTest as SequentialTest, sequential_test as sequential_test, studentised_change as studentised_change
from .t_tests import TTest as TTest, WelchTest as WelchTest, welch_t_test as welch_t_test
from .templates import TemplateEffects as TemplateEffects, template_effects as template_effects
from .verdicts import Verdict as Verdict, verdict as verdict
