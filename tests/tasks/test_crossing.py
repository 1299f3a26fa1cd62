"""Problems asked with several prompt templates: each with each, one group, whole in its split, and told apart in the report."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols

import steerlab as sl
from steerlab.reports import sections
from steerlab.tasks import crossed, shared_groups
from steerlab.tasks.crossing import templates_of

TEMPLATES = ("{prompt}", "Please answer.\n{prompt}")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_each_problem_is_asked_with_each_template_and_stays_whole():
    task = sl.load_task("arithmetic", limit=5)
    both = sl.load_task("arithmetic", limit=5, templates=TEMPLATES)
    assert [p.prompt for p in both.test] == [t.replace("{prompt}", p.prompt) for p in task.test for t in TEMPLATES]
    assert [p.target for p in both.test] == [p.target for p in task.test for _ in TEMPLATES]
    assert all(one.group == other.group is not None for one, other in zip(both.test[::2], both.test[1::2], strict=True))
    assert set(shared_groups(both.train, both.test)) == set(shared_groups(task.train, task.test))
    assert templates_of(both.test) == TEMPLATES * 5
    assert templates_of(task.test) is None
    assert both.about["templates"] == list(TEMPLATES)


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        (["{prompt}"], "give at least two"),
        (["{prompt}", "{prompt}"], "give at least two"),
        (["{prompt}", "no place"], "'no place' must be a text with {prompt} in it once"),
        (["{prompt}", "{prompt} {prompt}"], "in it once"),
        (["{prompt}", 3], "must be a text"),
    ],
)
def test_templates_that_ask_nothing_are_refused(templates, said):
    with pytest.raises(ValueError, match=said):
        crossed(sl.load_task("arithmetic", limit=2), templates)


def test_a_prompt_of_tokens_has_no_place_in_a_template():
    task = sl.Task("tokens", [], [], [sl.Problem("a", (1, 2), (3,), ((3,), (4,)))], "choice")
    with pytest.raises(ValueError, match="problem 'a': a prompt of token ids"):
        crossed(task, TEMPLATES)


def simulated(n_templates: int, n_groups: int, *, between: float, seed: int = 0) -> pd.DataFrame:
    draw = rng(seed)
    effects, fates = draw.normal(0.1, between, n_templates), draw.normal(0, 0.5, n_groups)
    lines = [(f"t{t}", f"g{g}", effects[t] + fates[g] + draw.normal()) for t in range(n_templates) for g in range(n_groups)]
    return pd.DataFrame(lines, columns=["template", "group", "change"])


def test_the_spread_between_templates_is_that_of_an_analysis_of_variance():
    """Oracle: statsmodels' two-way table: (MS of templates - MS of the rest) / groups."""
    data = simulated(4, 30, between=1.0)
    found = sl.statistics.template_effects(
        np.zeros(len(data)), data["change"], templates=data["template"], groups=data["group"], rng=rng(), n_resamples=50
    )
    table = sm.stats.anova_lm(ols("change ~ template + group", data).fit())
    squares = table["sum_sq"] / table["df"]
    assert found.between == pytest.approx(np.sqrt((squares["template"] - squares["Residual"]) / 30))
    np.testing.assert_allclose(found.frame["change"], data.groupby("template")["change"].mean())
    assert found.change == pytest.approx(data["change"].mean())


def test_templates_that_all_have_the_same_effect_have_no_spread():
    changes = np.tile([1.0, 0.0, 1.0, 0.0, 0.0], 3)
    found = sl.statistics.template_effects(
        np.zeros(15), changes, templates=np.repeat(list("abc"), 5), groups=np.tile(range(5), 3), rng=rng()
    )
    assert found.between == 0
    assert found.frame["change"].tolist() == [0.4] * 3


def test_the_two_way_bootstrap_draws_both_and_is_wider_than_that_of_problems_alone():
    """Oracle: the pigeonhole bootstrap by hand, one draw at a time."""
    data = simulated(12, 25, between=0.6, seed=3)
    cells = data.pivot_table(index="template", columns="group", values="change").to_numpy()
    found = sl.statistics.template_effects(
        np.zeros(len(data)), data["change"], templates=data["template"], groups=data["group"], rng=rng(), n_resamples=4000
    )
    draw = rng(1)
    by_hand = [cells[np.ix_(draw.integers(0, 12, 12), draw.integers(0, 25, 25))].mean() for _ in range(4000)]
    assert found.draws.std() == pytest.approx(np.std(by_hand), rel=0.06)
    alone = sl.statistics.bootstrap(data["change"], rng=rng(), groups=data["group"]).standard_error
    assert found.draws.std() > 1.3 * alone


def test_few_templates_make_an_approximate_interval():
    data = simulated(3, 40, between=0.1)
    options = {"templates": data["template"], "groups": data["group"], "rng": rng(), "n_resamples": 99}
    found = sl.statistics.template_effects(np.zeros(len(data)), data["change"], **options)
    assert "approximate: only 3 templates" in str(found)
    assert any("3 templates" in said for said in found.warnings())


def test_the_report_tells_templates_apart(toy_model):
    task = sl.load_task("arithmetic", n_train=30, n_validation=10, n_test=10)
    task = crossed(task, ("{prompt}", "{prompt} "))
    found = sl.run_experiment(
        toy_model("bridge"), task, seed=0, layers=[1], alphas=(-2.0, 0.0, 2.0), n_controls=2, n_same_cell=2, families=()
    )
    said = sl.Significance(found)
    assert said.finding("raise").effect.n_groups == 10
    effects = said.templates("lower")
    cell, (before, after) = found.cell("lower"), found.pipelines[0].paired("lower")
    mine = [p.id for p in found.test.baseline.problems if p.meta["template"] == "{prompt} "]
    change = after[mine].astype(float).mean() - before[mine].astype(float).mean()
    assert effects.frame.set_index("template").loc["{prompt} ", "change"] == pytest.approx(change)
    parts = dict(sections.sections(said))["Prompt templates"]
    assert parts[2].startswith(f"At layer {cell.layer}, alpha {cell.alpha:+g}: mean change ")
    assert found.settings["task"]["templates"] == ["{prompt}", "{prompt} "]
