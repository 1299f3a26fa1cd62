"""Tests, intervals, corrections and power: arrays and Series in, frozen results out; no model and no torch.

Paired outcomes are compared by `sign_test` (with `paired_interval`), paired margins by `paired_t_test`, `wilcoxon_test` or
`sign_flip_test`, two families of controls by `welch_t_test`. An effect is held against control directions by `rank_test`, with
`prediction_test`, `one_sample_t_test` and `cohens_d` reported next to it. `bootstrap` gives intervals of anything else.
"""

from steerlab._checks import Alternative
from steerlab.statistics._display import format_p
from steerlab.statistics._student import TTest
from steerlab.statistics.against_controls import PredictionTest, RankTest, cohens_d, one_sample_t_test, prediction_test, rank_test
from steerlab.statistics.bootstrap import Bootstrap, bootstrap
from steerlab.statistics.corrections import benjamini_hochberg, holm
from steerlab.statistics.dose_curves import IsotonicFit, SpearmanCorrelation, isotonic_fit, spearman
from steerlab.statistics.dose_lines import Asymmetry, LinearFit, asymmetry, linear_fit
from steerlab.statistics.dose_response import DoseResponse, dose_response
from steerlab.statistics.effective import effective_dimension, effective_size
from steerlab.statistics.effects import (
    AntiSteerable,
    EffectSize,
    OddsRatio,
    anti_steerable_share,
    cohens_h,
    discordant_odds_ratio,
    effect_size,
    paired_effect_size,
)
from steerlab.statistics.equivalence import EquivalenceTest, equivalence_test
from steerlab.statistics.intervals import Interval, clopper_pearson_interval, paired_interval, wilson_interval
from steerlab.statistics.many_looks import MaxStatisticTest, max_statistic_test, rank_tests
from steerlab.statistics.outcomes import ControlOutcomes, ControlTests, controls_from_frame
from steerlab.statistics.paired import SignTest, paired_t_test, sign_test
from steerlab.statistics.pareto import pareto_front
from steerlab.statistics.planning import Plan, plan
from steerlab.statistics.power import power_curve, power_of_sign_test, power_of_t_test, smallest_detectable_change
from steerlab.statistics.separability import AUC, auc, cross_validated_auc
from steerlab.statistics.signed import SignFlipTest, WilcoxonTest, sign_flip_test, wilcoxon_test
from steerlab.statistics.stability import DirectionalAgreement, SplitHalf, directional_agreement, split_half_cosines
from steerlab.statistics.trends import Reversal, TrendTest, largest_reversal, trend_test
from steerlab.statistics.two_samples import WelchTest, welch_t_test

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
