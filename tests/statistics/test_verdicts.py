"""Verdicts: the design's table, Holm's correction by statsmodels, and what counts at the level."""

import numpy as np
import pytest
from results import shown, speaks
from statsmodels.stats.multitest import multipletests

import steerlab.statistics as st

LOW, HIGH = 0.001, 0.4


@pytest.mark.parametrize(
    ("effect", "pipelines", "labels", "text"),
    [
        (LOW, LOW, LOW, "specific effect"),
        (LOW, LOW, HIGH, "effect that is not specific to this direction"),
        (LOW, HIGH, LOW, "effect that is not specific to this direction"),
        (LOW, HIGH, HIGH, "effect that is not specific to this direction"),
        (HIGH, LOW, LOW, "unusual, but no net effect"),
        (HIGH, LOW, HIGH, "no effect detected"),
        (HIGH, HIGH, LOW, "no effect detected"),
        (HIGH, HIGH, HIGH, "no effect detected"),
    ],
)
def test_the_table_of_verdicts(effect, pipelines, labels, text):
    """Oracle: the table of the protocol, line by line."""
    assert st.verdict(effect, {"random pipelines": pipelines, "shuffled labels": labels}).text == text


@pytest.mark.parametrize("n", [1, 2, 3])
def test_p_values_are_corrected_over_all_tests_of_the_cell(n):
    """Oracle: statsmodels' `multipletests`; the verdict follows from its rejections."""
    chance, texts = np.random.default_rng(n), set()
    for _ in range(60):
        raw = chance.choice([0.001, 0.01, 0.012, 0.02, 0.024, 0.03, 0.05, 0.3], n + 1)
        found = st.verdict(raw[0], {f"kind {k}": p for k, p in enumerate(raw[1:])})
        rejected, corrected, *_ = multipletests(raw, 0.05, method="holm")
        frame = found.frame
        assert frame["p_holm"].tolist() == pytest.approx(corrected.tolist())
        assert (frame["p_uncorrected"].tolist(), frame["significant"].tolist()) == (raw.tolist(), rejected.tolist())
        yes, special = rejected[0], rejected[1:].all()
        assert (
            found.text
            == {
                (True, True): "specific effect",
                (True, False): "effect that is not specific to this direction",
                (False, True): "unusual, but no net effect",
                (False, False): "no effect detected",
            }[yes, special]
        )
        texts.add(found.text)
    assert len(texts) == 4


@pytest.mark.parametrize("level", [0.05, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_a_corrected_p_exactly_at_the_level_counts(level, n):
    """By hand: the smallest of n + 1 p-values is level / (n + 1); the others are 0, or 1."""
    exact = level / (n + 1)
    zeros = {f"kind {k}": exact for k in range(n)}
    assert st.verdict(exact, zeros, level=level).text == "specific effect"
    assert st.verdict(exact, dict.fromkeys(zeros, 1.0), level=level).text == "effect that is not specific to this direction"
    assert st.verdict(exact * (1 + 1e-9), dict.fromkeys(zeros, 1.0), level=level).text == "no effect detected"
    assert st.verdict(1 / 20, {"a": 1 / 20, "b": 1 / 20}, level=0.15).text == "specific effect"  # 3 * 0.05 is a little more than 0.15


def test_the_level_is_free():
    given = 0.02, {"random pipelines": 0.04}
    assert [st.verdict(*given, level=level).text for level in (0.05, 0.04, 0.03)] == [
        "specific effect", "specific effect", "no effect detected",
    ]  # fmt: skip
    assert [st.verdict(0.02, {"a": 0.06}, level=level).text for level in (0.05, 0.04)] == [
        "effect that is not specific to this direction"
    ] * 2


def test_kinds_of_controls_may_be_called_anything():
    found = st.verdict(LOW, {"effect": HIGH})
    assert (found.text, len(found.frame)) == ("effect that is not specific to this direction", 2)


def test_a_verdict_says_itself():
    found = st.verdict(0.0001, {"random pipelines": 0.01, "shuffled labels": 0.02})
    assert str(found) == ("specific effect (effect p = 0.0003, random pipelines p = 0.0200, shuffled labels p = 0.0200; Holm over 3 tests)")
    speaks(found)
    assert "specific effect" in shown(found)


@pytest.mark.parametrize(
    ("effect", "controls", "level", "message"),
    [
        (0.1, {}, 0.05, "controls: no p-values"),
        (1.1, {"a": 0.1}, 0.05, "1.1"),
        (0.1, {"a": float("nan")}, 0.05, "nan"),
        (0.1, {"a": 0.1}, 0.0, "level=0.0"),
        (0.1, {"a": 0.1}, 5, "level=5"),
    ],
)
def test_bad_input_is_named(effect, controls, level, message):
    with pytest.raises(ValueError, match=message):
        st.verdict(effect, controls, level=level)
