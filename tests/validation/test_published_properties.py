"""The audit never condemns a true claim: whatever was measured, rounding it for print leaves it following."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import pandas as pd
from hypothesis import given
from hypothesis import strategies as hs

from steerlab.validation.published.auditing import RECIPES
from steerlab.validation.published.numbers import printed
from steerlab.validation.published.tables import CELL_COLUMNS, Numbers

decimals = hs.integers(0, 3)
counts = hs.integers(1, 400).flatmap(lambda n: hs.tuples(hs.just(n), hs.lists(hs.integers(0, n), min_size=2, max_size=6)))


def text(value: Fraction, places: int, *, half_up: bool = True) -> str:
    """A number as a document would print it, with a unit."""
    number = Decimal(value.numerator) / Decimal(value.denominator)
    rounded = number.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP if half_up else ROUND_HALF_EVEN)
    return f"{rounded:+f}%"


def cells(texts: list[str]):
    rows = [("paper", "Results", "table", str(row), "value", one) for row, one in enumerate(texts)]
    return Numbers(pd.DataFrame(rows, columns=CELL_COLUMNS)).find("table/*/value", "paper")


@given(hs.fractions(-1000, 1000, max_denominator=1000), decimals, hs.booleans())
def test_a_printed_number_stands_for_the_value_it_was_rounded_from(value, places, half_up):
    shown = printed(text(value, places, half_up=half_up)).range
    assert shown.low <= value <= shown.high


@given(counts, decimals)
def test_the_count_behind_a_percentage_is_among_those_it_stands_for(drawn, places):
    n, (k, *_) = drawn
    found = printed(text(Fraction(100 * k, n), places)).counts(n)
    assert found.low <= k <= found.high


@given(counts, decimals, decimals, hs.booleans())
def test_true_differences_means_and_changes_follow(drawn, places, claimed_places, with_n):
    n, right = drawn
    shares = [Fraction(100 * k, n) for k in right]
    shown = [text(share, places) for share in shares]
    of_n = {"n": cells([str(n)])} if with_n else {}
    before, after, everything = cells(shown[:1]), cells(shown[1:2]), cells(shown)
    truths = {
        "difference": (shares[1] - shares[0], {"after": after, "before": before}),
        "mean": (sum(shares) / len(shares), {"of": everything}),
        "mean_difference": (shares[1] - sum(shares) / len(shares), {"of": after, "minus": everything}),
        "change": (shares[1] - shares[0], {"after": after, "before": before}),
    }
    for name, (truth, arguments) in truths.items():
        answer = RECIPES[name](**arguments, **of_n)
        assert answer.judged(printed(text(truth, claimed_places))).verdict == "follows"


@given(counts, decimals)
def test_true_counts_of_gains_and_true_ranks_follow(drawn, places):
    n, right = drawn
    shown = cells([text(Fraction(100 * k, n), places) for k in right])
    of_n = {"n": cells([str(n)])}
    above = sum(100 * k > 20 * n for k in right)
    assert RECIPES["how_many"](of=shown, above="20", **of_n).judged(printed(str(above))).verdict == "follows"
    highest = right.index(max(right))
    assert RECIPES["rank"](of=shown[highest : highest + 1], among=shown, **of_n).judged(printed("1")).verdict == "follows"
    falling = sum(later > earlier for earlier, later in pairwise(right))
    assert RECIPES["wrong_steps"](of=shown, direction="falling", **of_n).judged(printed(str(falling))).verdict == "follows"


@given(
    hs.integers(1, 40).flatmap(lambda n: hs.tuples(hs.just(n), hs.lists(hs.sampled_from(["++", "+-", "-+", "--"]), min_size=n, max_size=n)))
)
def test_the_true_sign_test_is_in_the_range_that_two_accuracies_allow(drawn):
    n, outcomes = drawn
    before, after = (sum(one[place] == "+" for one in outcomes) for place in (0, 1))
    gains, losses = outcomes.count("-+"), outcomes.count("+-")
    truth = RECIPES["sign_test_p"](became_right=cells([str(gains)]), became_wrong=cells([str(losses)])).ranges[0]
    shown = {"after": cells([text(Fraction(100 * after, n), 2)]), "before": cells([text(Fraction(100 * before, n), 2)])}
    allowed = RECIPES["sign_test_p_from_accuracies"](**shown, n=cells([str(n)])).ranges[0]
    assert allowed.low <= truth.low <= allowed.high
