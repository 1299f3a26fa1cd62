"""Tests, intervals, corrections and power: arrays and Series in, frozen results out; no model and no torch.

- `paired`: the same problems before and after: sign test, signed ranks, sign flips, paired t.
- `controls`: one effect among those of control directions: the rank test and its like.
- `multiplicity`: Holm, Benjamini-Hochberg, the best cell of a grid.
- `intervals`, `effects`, `t_tests`: intervals and the bootstrap; effect sizes; Student's t and Welch's.
- `dose_response`, `dose_models`: does the response follow alpha, and how?
- `equivalence`, `power`: no effect larger than a margin; what a test could have seen, and planning.
- `separability`: do two groups of vectors differ along a stable direction?
"""

from steerlab._checks import Alternative
from steerlab.statistics._format import format_p
from steerlab.statistics.controls import (
    ControlOutcomes,
    ControlTests,
    PredictionTest,
    RankTest,
    cohens_d,
    controls_from_frame,
    one_sample_t_test,
    prediction_test,
    rank_test,
)
from steerlab.statistics.dose_models import (
    Asymmetry,
    IsotonicFit,
    LinearFit,
    SpearmanCorrelation,
    asymmetry,
    isotonic_fit,
    linear_fit,
    spearman,
)
from steerlab.statistics.dose_response import DoseResponse, Reversal, TrendTest, dose_response, largest_reversal, trend_test
from steerlab.statistics.effects import (
    AntiSteerable,
    EffectSize,
    OddsRatio,
    anti_steerable_share,
    cohens_h,
    discordant_odds_ratio,
    effect_size,
    paired_effect_size,
    pareto_front,
)
from steerlab.statistics.equivalence import EquivalenceTest, equivalence_test
from steerlab.statistics.intervals import Bootstrap, Interval, bootstrap, clopper_pearson_interval, paired_interval, wilson_interval
from steerlab.statistics.multiplicity import MaxStatisticTest, benjamini_hochberg, holm, max_statistic_test, rank_tests
from steerlab.statistics.paired import SignFlipTest, SignTest, WilcoxonTest, paired_t_test, sign_flip_test, sign_test, wilcoxon_test
from steerlab.statistics.power import Plan, plan, power_curve, power_of_sign_test, power_of_t_test, smallest_detectable_change
from steerlab.statistics.separability import (
    AUC,
    DirectionalAgreement,
    SplitHalf,
    auc,
    cross_validated_auc,
    directional_agreement,
    effective_dimension,
    effective_size,
    split_half_cosines,
)
from steerlab.statistics.t_tests import TTest, WelchTest, welch_t_test

__all__ = [
    "AUC",
    "Alternative",
    "AntiSteerable",
    "Asymmetry",
    "Bootstrap",
    "ControlOutcomes",
    "ControlTests",
    "DirectionalAgreement",
    "DoseResponse",
    "EffectSize",
    "EquivalenceTest",
    "Interval",
    "IsotonicFit",
    "LinearFit",
    "MaxStatisticTest",
    "OddsRatio",
    "Plan",
    "PredictionTest",
    "RankTest",
    "Reversal",
    "SignFlipTest",
    "SignTest",
    "SpearmanCorrelation",
    "SplitHalf",
    "TTest",
    "TrendTest",
    "WelchTest",
    "WilcoxonTest",
    "anti_steerable_share",
    "asymmetry",
    "auc",
    "benjamini_hochberg",
    "bootstrap",
    "clopper_pearson_interval",
    "cohens_d",
    "cohens_h",
    "controls_from_frame",
    "cross_validated_auc",
    "directional_agreement",
    "discordant_odds_ratio",
    "dose_response",
    "effect_size",
    "effective_dimension",
    "effective_size",
    "equivalence_test",
    "format_p",
    "holm",
    "isotonic_fit",
    "largest_reversal",
    "linear_fit",
    "max_statistic_test",
    "one_sample_t_test",
    "paired_effect_size",
    "paired_interval",
    "paired_t_test",
    "pareto_front",
    "plan",
    "power_curve",
    "power_of_sign_test",
    "power_of_t_test",
    "prediction_test",
    "rank_test",
    "rank_tests",
    "sign_flip_test",
    "sign_test",
    "smallest_detectable_change",
    "spearman",
    "split_half_cosines",
    "trend_test",
    "welch_t_test",
    "wilcoxon_test",
    "wilson_interval",
]
