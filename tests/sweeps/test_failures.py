"""Failure analysis: groups, tests and expectations, against counting by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from results import speaks
from scipy import stats

import steerlab as sl


def swept(before, after, *, alphas=(-1.0, 1.0), meta=None):
    """A sweep of one line, with given margins."""
    problems = tuple(
        sl.Problem(f"p{k}", "?" * (k + 1), " A", (" A", " B"), {} if meta is None else {"steps": meta[k]}) for k in range(len(before))
    )
    ids = [p.id for p in problems]

    def outcomes(margins):
        return pd.DataFrame({"problem_id": ids, "prediction": "", "correct": np.asarray(margins) > 0, "margin": margins, "nll": 1.0})

    cells = [
        outcomes(np.asarray(margins, float)).assign(layer=2, alpha=alpha, direction="d")
        for alpha, margins in zip(alphas, after, strict=True)
    ]
    checks = pd.DataFrame(columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])
    return sl.SweepResult(pd.concat(cells, ignore_index=True), sl.Evaluation(problems, outcomes(before), "choice"), (), checks, {})


BEFORE = np.array([-2.0, -0.5, 0.25, 1.0, 3.0])
AFTER = np.array([[-3.0, -1.0, -0.5, -0.25, 2.0], [-1.0, 0.5, 0.5, 2.0, 2.0]])


def test_problems_are_sorted_by_what_became_of_them():
    found = sl.failure_analysis(swept(BEFORE, AFTER))
    by = found.frame.pivot(index="problem_id", columns="alpha", values="group")
    assert by[-1.0].tolist() == ["stayed wrong", "stayed wrong", "broken", "broken", "stayed right"]
    assert by[1.0].tolist() == ["stayed wrong", "fixed", "stayed right", "stayed right", "stayed right"]
    assert found.groups().groupby("alpha")["n"].sum().tolist() == [5, 5]


def test_covariates_are_the_characters_of_prompt_and_choices_and_the_numbers_that_all_problems_have():
    sw = swept(BEFORE, AFTER, meta=[1, 2, 3, 4, 5])
    found = sl.failure_analysis(sw)
    first = found.frame[found.frame["alpha"] == 1.0]
    assert first["length"].tolist() == [5, 6, 7, 8, 9]  # one to five question marks, and two choices of two characters
    assert first["margin_change"].tolist() == (AFTER[1] - BEFORE).tolist()
    assert found.groups().query("alpha == 1 and group == 'stayed right'")[["margin", "length", "steps"]].values.tolist() == [
        [1.0, 8.0, 4.0]
    ]
    some = [replace(p, meta={"steps": 1} if k else {}) for k, p in enumerate(sw.baseline.problems)]
    lacking = replace(sw, baseline=sl.Evaluation(tuple(some), sw.baseline.frame, "choice"))
    assert sl.failure_analysis(lacking).covariates == ("margin", "length")


def test_a_side_with_a_single_problem_is_not_compared():
    compared = sl.failure_analysis(swept(BEFORE, AFTER)).tests
    assert compared.empty  # at alpha -1 two were broken and one stayed right; at 1 one was fixed
    one_more = np.append(BEFORE, 2.0), np.append(AFTER, [[1.5], [2.5]], axis=1)
    lines = sl.failure_analysis(swept(*one_more)).tests
    assert lines[["alpha", "compared", "covariate", "n_moved", "n_stayed"]].values.tolist() == [
        [-1.0, "broken against stayed right", name, 2, 2] for name in ("margin", "length")
    ]
    assert lines["auc"].tolist() == [0.0, 0.0]  # both broken ones are nearer to the line, and shorter


def test_expected_counts_are_those_of_every_other_problems_move():
    found = sl.failure_analysis(swept(BEFORE, AFTER))
    for place, row in enumerate(found.headroom.itertuples()):
        moves = AFTER[place] - BEFORE
        up = down = 0.0
        for i in range(5):
            others = [BEFORE[i] + moves[j] > 0 for j in range(5) if j != i]
            if BEFORE[i] > 0:
                down += 1 - np.mean(others)
            else:
                up += np.mean(others)
        assert (row.fixed_expected, row.broken_expected) == pytest.approx((up, down))
        assert row.change == pytest.approx(np.mean(AFTER[place] > 0) - np.mean(BEFORE > 0))
        assert (row.wrong, row.right) == (2, 3)
        assert row.mean_shift == pytest.approx(sum(moves) / 5)
        assert row.spread**2 == pytest.approx(sum((move - sum(moves) / 5) ** 2 for move in moves) / 4)


def test_moves_that_befall_problems_at_random_are_expected_and_others_are_not():
    rng = np.random.default_rng(0)
    before = rng.normal(0.5, 1.0, 400)
    noise = rng.normal(-0.3, 0.7, 400)
    alike = sl.failure_analysis(swept(before, [before + noise, before])).headroom.iloc[0]
    assert abs(alike["change"] - alike["change_expected"]) < 0.03
    knowing = np.where(before > 0, 0.0, 1.0)  # only wrong answers are helped
    told = sl.failure_analysis(swept(before, [before + knowing, before])).headroom.iloc[0]
    assert told["broken"] == 0
    assert told["fixed"] > 1.5 * told["fixed_expected"]


def test_comparisons_are_mann_whitney_tests_with_holms_correction():
    rng = np.random.default_rng(1)
    before = rng.normal(0.3, 1.0, 300)
    after = before + rng.normal(0, 0.8, 300)
    steps = rng.integers(1, 5, 300).tolist()
    found = sl.failure_analysis(swept(before, [after, before + 0.01], meta=steps))
    assert found.covariates == ("margin", "length", "steps")
    line = found.tests.query("alpha == -1 and covariate == 'margin' and compared == 'broken against stayed right'").iloc[0]
    broken, stayed = np.abs(before[(before > 0) & (after <= 0)]), before[(before > 0) & (after > 0)]
    wanted = stats.mannwhitneyu(broken, stayed)
    assert line["p"] == pytest.approx(wanted.pvalue)
    assert line["auc"] == pytest.approx(wanted.statistic / len(broken) / len(stayed))
    np.testing.assert_allclose(found.tests["p_holm"], sl.statistics.holm(found.tests["p"].to_numpy()))
    assert "the margin is smaller in absolute value" in str(found)


def test_the_summary_says_what_was_observed_and_expected_and_the_figure_shows_it():
    found = sl.failure_analysis(swept(BEFORE, AFTER))
    assert "At alpha = -1, 0 of 2 wrong answers became right and 2 of 3 right ones wrong" in str(found)
    assert "At alpha = +1, 1 of 2 wrong answers became right and 0 of 3 right ones wrong" in str(found)
    speaks(found)
    figure = sl.plots.headroom(found)
    assert list(figure.data[1].y) == [0, 1]
    assert "2 of 3 right answers broken" in figure.data[3].hovertext[0]
    with pytest.raises(TypeError, match="expected what steerlab"):
        sl.plots.headroom(found.frame)


def test_what_cannot_be_sorted_is_refused():
    with pytest.raises(ValueError, match="no alpha but 0"):
        sl.failure_analysis(swept(BEFORE, [BEFORE], alphas=(0.0,)))
    with pytest.raises(ValueError, match="layer=7, direction=None leaves 0 of the sweep's lines; choose one of layer 2"):
        sl.failure_analysis(swept(BEFORE, AFTER), layer=7)
    odd = swept(BEFORE, AFTER)
    odd.baseline.frame["correct"] = True
    with pytest.raises(ValueError, match="margins do not tell right from wrong"):
        sl.failure_analysis(odd)
