"""Numbers: what is read in a text, and which two are the same."""

from decimal import Decimal

import numpy as np
import pytest

from steerlab.models.batches import Answer
from steerlab.tasks.loaders import load_task
from steerlab.tasks.numbers import decimal_text, exact_number, extract_number, find_number, parse_number, same_number
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import SCORERS

RULE = [
    # which one
    ("so it is 12", "12"),
    ("12 and then 7.", "7"),
    ("7 #### 12 then 99", "12"),
    ("1 #### 2 #### 3", "2"),
    ("3 #### none", None),
    ("none at all", None),
    ("", None),
    # digits, and points that end a sentence
    ("007", "7"),
    ("It is 5.", "5"),
    ("it costs 5, truly", "5"),
    (".5", "0.5"),
    ("x = .5", "0.5"),
    ("well...5", "5"),
    ("That is it.5 of them", "5"),
    ("version 1.2.3", "3"),
    ("٣", "3"),
    # commas
    ("$1,234.50 in all", "1234.50"),
    ("5,600,000,001", "5600000001"),
    ("12,34,567", "1234567"),
    ("1,2,3", "3"),
    ("1,2345", "2345"),
    ("1,234,5", "5"),
    ("1,234, which", "1234"),
    # exponents
    ("1e-07", "0.0000001"),
    ("1e−07", "0.0000001"),
    ("2.5e3", "2500"),
    ("1E5.", "100000"),
    ("5eggs", "5"),
    ("2e5x", "5"),
    ("3 x 10^5", "5"),
    # signs
    ("minus -3", "-3"),
    ("it is −3", "-3"),
    ("= -3", "-3"),
    ("(-3)", "-3"),
    ("+8", "8"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    ("−€5", "-5"),
    ("-\\$5", "-5"),
    ("$-5$", "-5"),
    ("#### -1,000", "-1000"),
    ("12-5", "5"),
    ("12−5", "5"),
    ("12 -5", "-5"),
    ("$1,000-$2,000", "2000"),
    ("(3)-5", "5"),
    ("50%-60%", "60"),
    ("GPT-2", "2"),
    ("so--5", "5"),
    ("- 5", "5"),
    # units and fractions
    ("50%", "50"),
    ("5kg", "5"),
    ("1/2", "2"),
    # nothing is lost
    ("90071992547409931", "90071992547409931"),
    ("0.1000000000000000055", "0.1000000000000000055"),
]


@pytest.mark.parametrize(("text", "number"), RULE)
def test_the_number_in_a_text_is_read_by_the_rule(text, number):
    """Oracle: by hand."""
    found = find_number(text)
    assert found == (None if number is None else Decimal(number))
    assert extract_number(text) == (None if number is None else float(number) if "." in number else int(number))


def test_a_whole_number_stays_whole_however_large():
    assert extract_number("It is 90071992547409931.") == 90071992547409931
    assert parse_number("90071992547409931") == 90071992547409931
    assert parse_number("1,234") == 1234
    assert parse_number(10**400) == 10**400


SAME = [
    (5600000000, "5600000001", False),
    (5600000000.0, "5600000001", False),
    ("5,600,000,000", "5600000001", False),
    (5600000001, "5600000001", True),
    (2**60, str(2**60 + 1), False),
    (2.0**60, str(2**60), True),
    (np.int64(7), "7.0", True),
    (7, "7.000", True),
    ("7", "7.0000000001", False),
    (0.1, "0.1", True),
    (np.float32(0.1), "0.1", True),
    (np.float16(0.1), "0.1", True),
    (float(np.float32(0.1)), "0.1", True),
    (float(np.float32(0.1)), "0.1000001", False),
    (float(np.float32(1 / 3)), "0.33333333", True),
    (float(np.float32(1 / 3)), "0.3333", False),
    (8388608.5, "8388608.6", False),
    (2.5, "2.5000000001", False),
    (5600000000.5, "5600000001", False),
    (0.1 + 0.2, "0.3", True),
    (0.1 * 3 * 10, "3", True),
    (1 / 3, "0.3333333333", True),
    (1 / 3, "0.33333", False),
    (1e-7, "1e-07", True),
    (1e-12, "0", False),
    (1e23, "1e23", True),
    ("-$5", "-5", True),
    (0, "-0", True),
]


@pytest.mark.parametrize(("target", "said", "same"), SAME)
def test_two_numbers_are_the_same_as_decimals(target, said, same):
    """Oracle: by hand."""
    assert same_number(target, find_number(said)) is same


@pytest.mark.parametrize("value", [True, None, "5 apples", "", "1 2", "nan", float("nan"), float("inf"), Decimal("NaN"), "1_000", [1]])
def test_what_is_not_one_number_as_a_whole_is_none(value):
    assert exact_number(value) is None


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("5600000001", "5600000001"),
        ("1234567890123.25", "1234567890123.25"),
        ("7.000", "7"),
        ("2.5e3", "2500"),
        ("1e-07", "0.0000001"),
        ("-0.50", "-0.5"),
        ("1" + "0" * 30 + "1", "1" + "0" * 30 + "1"),
        ("1e999", "1E+999"),
        ("100", "100"),
    ],
)
def test_a_number_is_shown_exactly(number, shown):
    assert decimal_text(Decimal(number)) == shown


@pytest.mark.parametrize("unit", ["1", ",11", "1,111", "1,11,", "-$ ", "1e", "$-"])
def test_a_long_text_takes_time_in_proportion(unit):
    """At a few nanoseconds a step, the square of the length would take minutes."""
    find_number(unit * 200_000)


def said(toy, target: object, words: str) -> tuple[str, bool]:
    generated = tuple(toy.tokenizer(words, add_special_tokens=False)["input_ids"])
    outcome = SCORERS["numeric"].judge(toy, Problem("p", "x", target), [Answer(generated=generated), Answer(((-1.0,),))])
    return outcome.prediction, outcome.correct


class Spelling:
    """A tokenizer of letters."""

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, tokens, skip_special_tokens=True):
        return "".join(map(chr, tokens))


class Speaker:
    """As much of a model as judging a generated text needs."""

    tokenizer = Spelling()


@pytest.mark.parametrize(
    ("target", "words", "outcome"),
    [
        (5600000000, "It is 5,600,000,001.", ("5600000001", False)),
        (5600000001, "It is 5,600,000,001.", ("5600000001", True)),
        (-5, "He owes −$5.", ("-5", True)),
        (2500, "2.5e3", ("2500", True)),
        (np.float32(0.1), "0.1", ("0.1", True)),
        (7, "none", ("", False)),
    ],
)
def test_a_generated_number_is_judged_and_shown_exactly(target, words, outcome):
    assert said(Speaker(), target, words) == outcome


def test_a_single_precision_column_holds_the_decimals_that_were_written_into_it(tmp_path):
    """Oracle: the decimals; as doubles they read 0.10000000149011612."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    values = [0.1, 0.7, 2.5, 1e-7, 33554432.0, 3.3]
    for kind in (pyarrow.float32(), pyarrow.float16(), pyarrow.decimal128(12, 7), pyarrow.float64()):
        given = [Decimal(str(v)).quantize(Decimal("1e-4")) for v in values[:4]] if pyarrow.types.is_decimal(kind) else values[:4]
        if kind == pyarrow.float16():
            given = [np.float16(v) for v in (0.1, 0.7, 2.5, 0.25)]
        column = pyarrow.array(given, type=kind)
        table = pyarrow.table({"prompt": [f"{i}?" for i in range(4)], "target": column})
        parquet.write_table(table, tmp_path / "own.parquet")
        task = load_task("jsonl", path=tmp_path / "own.parquet", shares=(1, 0, 0))
        wanted = [float(str(v)) for v in given]
        assert [p.target for p in sorted(task.train, key=lambda p: p.prompt)] == wanted, kind


@pytest.mark.parametrize(("target", "said"), [(5600000000001.25, "5600000000002"), (123456789012.34567, "123456789012"), (1 / 3, "0")])
def test_a_tolerance_passes_no_whole_number_for_a_fraction(target, said):
    assert not same_number(target, Decimal(said))
