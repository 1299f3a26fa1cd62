"""Tests, intervals, corrections and power: arrays and Series in, frozen results out; no model and no torch.

Paired outcomes are compared by `sign_test` (with `paired_interval`), paired margins by `paired_t_test`, and an effect
is held against control directions by `rank_test`, with `one_sample_t_test` and `cohens_d` reported next to it.
"""

from steerlab.statistics._display import format_p
from steerlab.statistics._input import Alternative
from steerlab.statistics._student import TTest
from steerlab.statistics.against_controls import RankTest, cohens_d, one_sample_t_test, rank_test
from steerlab.statistics.corrections import benjamini_hochberg, holm
from steerlab.statistics.effective import effective_dimension, effective_size
from steerlab.statistics.intervals import Interval, paired_interval, wilson_interval
from steerlab.statistics.outcomes import ControlOutcomes, ControlTests, controls_from_frame
from steerlab.statistics.paired import SignTest, paired_t_test, sign_test
from steerlab.statistics.pareto import pareto_front
from steerlab.statistics.power import smallest_detectable_change
from steerlab.statistics.separability import AUC, auc, cross_validated_auc
from steerlab.statistics.stability import DirectionalAgreement, SplitHalf, directional_agreement, split_half_cosines

__all__ = [
    "AUC",
    "Alternative",
    "ControlOutcomes",
    "ControlTests",
    "DirectionalAgreement",
    "Interval",
    "RankTest",
    "SignTest",
    "SplitHalf",
    "TTest",
    "auc",
    "benjamini_hochberg",
    "cohens_d",
    "controls_from_frame",
    "cross_validated_auc",
    "directional_agreement",
    "effective_dimension",
    "effective_size",
    "format_p",
    "holm",
    "one_sample_t_test",
    "paired_interval",
    "paired_t_test",
    "pareto_front",
    "rank_test",
    "sign_test",
    "smallest_detectable_change",
    "split_half_cosines",
    "wilson_interval",
]
