"""Every public item shows how it is used; the examples themselves run as doctests, which pyproject.toml's testpaths collect."""

import inspect

import pytest

import steerlab as sl

PUBLIC = {
    f"{prefix}{name}": getattr(module, name)
    for prefix, module in (("", sl), ("statistics.", sl.statistics), ("plots.", sl.plots))
    for name in module.__all__
}
FUNCTIONS = {name: item for name, item in PUBLIC.items() if inspect.isfunction(item)}
CLASSES = {name: item for name, item in PUBLIC.items() if inspect.isclass(item)}
BUILT_BY_USERS = {"Direction", "Problem", "Task"}  # whether or not a function returns one, too
NEITHER = {
    "ALPHAS",
    "COEFFICIENTS",
    "ESTIMATORS",
    "NEUTRAL_TEXTS",
    "OPERATORS",
    "TASKS",
    "plots",
    "statistics",
    "tasks",
}  # constants and modules


def returned(name):
    """Whether a public function gives a class, which then shows itself in that function's example."""
    said = [str(inspect.signature(function).return_annotation) for function in FUNCTIONS.values()]
    return any(
        name.split(".")[-1] in annotation.replace("'", "").replace("|", " ").replace(".", " ").replace(">", " ").split()
        for annotation in said
    )


def test_every_public_item_is_a_function_a_class_or_known_to_be_neither():
    assert set(PUBLIC) - set(FUNCTIONS) - set(CLASSES) == NEITHER


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_public_function_has_an_example(name):
    assert ">>> " in inspect.getdoc(FUNCTIONS[name])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_public_class_has_an_example_unless_a_public_function_returns_it_or_it_is_abstract(name):
    exempt = returned(name) or inspect.isabstract(CLASSES[name])
    assert ">>> " in inspect.getdoc(CLASSES[name]) or (exempt and name not in BUILT_BY_USERS)


# What someone who has results and a doubt will look for, and must find from `import steerlab as sl`.
STATISTICS = """
    sign_test paired_t_test wilcoxon_test sign_flip_test one_sample_t_test welch_t_test rank_test prediction_test bootstrap
    wilson_interval clopper_pearson_interval paired_interval effect_size paired_effect_size cohens_d cohens_h discordant_odds_ratio
    anti_steerable_share holm benjamini_hochberg max_statistic_test trend_test isotonic_fit linear_fit spearman asymmetry
    largest_reversal dose_response equivalence_test smallest_detectable_change power_curve power_of_sign_test plan
    controls_from_frame auc cross_validated_auc directional_agreement split_half_cosines effective_size pareto_front
"""
LIBRARY = """
    random_directions covariance_matched shuffled_labels orthogonal_directions other_task match_kl random_control
    contrast_diagnostics side_effects changed_predictions calibrate published_audit
"""


def test_every_test_interval_control_and_diagnostic_is_reachable():
    assert set(STATISTICS.split()) <= set(sl.statistics.__all__)
    assert set(LIBRARY.split()) <= set(sl.__all__)
    assert {"pareto", "layer_alpha_heatmap", "null_distribution"} <= set(sl.plots.__all__)
