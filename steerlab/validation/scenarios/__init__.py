"""What the tests are calibrated on: true nulls, among them those that break a test's assumptions, and real effects.

Every procedure that `steerlab.statistics` offers, and every family of controls, is in a scenario or has its reason in
`NOT_SIMULATED`.
"""

from collections.abc import Mapping

from steerlab.validation.scenarios import against_controls, doses, families, intervals, multiplicity, pairs, pipelines
from steerlab.validation.scenarios._common import LEVELS, Scenario

SCENARIOS: list[Scenario] = [
    *pairs.SCENARIOS,
    *intervals.SCENARIOS,
    *against_controls.SCENARIOS,
    *multiplicity.SCENARIOS,
    *doses.SCENARIOS,
    *families.SCENARIOS,
    *pipelines.SCENARIOS,
]

_NUMBER = "a number without an interval and without a test"
_EXACT = "computed exactly, without a sample; tests compare it with direct summation and SciPy"
_NEWCOMBE = "it is paired_interval"

NOT_SIMULATED: Mapping[str, str] = {
    "SignTest.interval": _NEWCOMBE,
    "cohens_d": f"{_NUMBER}; rank_test and prediction_test judge the same distance",
    "cohens_h": _NUMBER,
    "effective_dimension": _NUMBER,
    "effective_size": _NUMBER,
    "design_effect": f"{_NUMBER}; sign flips by group judge the same changes",
    "directional_agreement": "a description of the problems at hand; nothing is inferred from it",
    "split_half_cosines": "a description of the problems at hand; splits share problems, so their quantiles are no confidence interval",
    "dose_response": "its parts stand in the tables under their own names",
    "pareto_front": "it compares numbers as they are",
    "format_p": "it writes numbers",
    "plan": _EXACT,
    "power_curve": _EXACT,
    "power_of_sign_test": _EXACT,
    "power_of_t_test": _EXACT,
    "smallest_detectable_change": _EXACT,
    "given_controls": "it passes on controls that were drawn before",
    "match_kl": "it needs a language model; it changes lengths, and the rank test stays the same",
    "changed_predictions": "it is wilson_interval",
}

__all__ = ["LEVELS", "NOT_SIMULATED", "SCENARIOS", "Scenario"]
