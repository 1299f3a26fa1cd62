"""A config dataclass is command line and help at once."""

import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, Optional

import pytest
from tyro.conf import Positional

from steerlab._checks import InputError, InputFileError, InputTypeError, MissingFileError
from steerlab.cli.run import parse, run


@dataclass(frozen=True)
class Base:
    """What every script needs."""

    seed: int = 0  # the only source of chance
    rate: float = 0.5  # share, 50% by default
    backend: Literal["auto", "hooked"] = "auto"  # which class


@dataclass(frozen=True)
class Config(Base):
    """What this script needs."""

    layers: tuple[int, ...] | None = None  # candidate layers; all by default
    alphas: tuple[float, ...] = (-1.0, 0.0, 1.0)  # coefficients
    out_folder: Path | None = None  # where to
    limit: Optional[int] = None  # noqa: UP045 - the older spelling works too
    quick: bool = False  # leave the slow part out
    chart: bool = True  # draw
    alpha: float = -1.0  # one coefficient
    spread: tuple[str, ...] = ("a", "b")
    """A docstring below, "#" and all."""
    tagged: str = "#"  # not what the quotes hold
    plain: str = "x"
    told: str = "y"  # stands behind one without a comment
    beginning: bool | None = None  # may be left open


@dataclass(frozen=True)
class Merge:
    """Several inputs."""

    runs: Positional[tuple[Path, ...]]  # run folders
    seed: int = 0  # chance


def in_one_line(text: str) -> str:
    """A text without its frame, whatever the width of the terminal."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


def helped(capsys, config_class=Config) -> str:
    """The help text in one line."""
    with pytest.raises(SystemExit) as ended:
        parse(config_class, ["--help"])
    assert ended.value.code == 0
    return in_one_line(capsys.readouterr().out)


def test_without_words_every_field_has_its_default():
    assert parse(Config, []) == Config()


def test_every_field_is_an_option_of_the_same_name(capsys):
    text = helped(capsys)
    for field in fields(Config):
        assert f" --{field.name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--seed", "7"], "seed", 7),
        (["--seed=-7"], "seed", -7),
        (["--rate", "1e-3"], "rate", 0.001),
        (["--backend", "hooked"], "backend", "hooked"),
        (["--layers", "0,2"], "layers", (0, 2)),
        (["--layers=3"], "layers", (3,)),
        (["--alphas=-3,0,3"], "alphas", (-3.0, 0.0, 3.0)),
        (["--alphas=-0.5, 1"], "alphas", (-0.5, 1.0)),
        (["--alphas", "-3,0,3"], "alphas", (-3.0, 0.0, 3.0)),
        (["--alphas", "-.5,-1e-3"], "alphas", (-0.5, -0.001)),
        (["--alphas", "\N{MINUS SIGN}1,0"], "alphas", (-1.0, 0.0)),
        (["--alpha", "-3"], "alpha", -3.0),
        (["--alpha", "-3e-1"], "alpha", -0.3),
        (["--alpha", "-inf"], "alpha", -math.inf),
        (["--alpha", "\N{MINUS SIGN}2"], "alpha", -2.0),
        (["--rate", "-1e3"], "rate", -1000.0),
        (["--layers", "-1,2"], "layers", (-1, 2)),
        (["--seed", "-7"], "seed", -7),
        (["--out-folder", "-a"], "out_folder", Path("-a")),
        (["--spread", "-a,b"], "spread", ("-a", "b")),
        (["--out-folder", "a/b"], "out_folder", Path("a/b")),
        (["--limit", "5"], "limit", 5),
        (["--quick"], "quick", True),
        (["--no-quick"], "quick", False),
        (["--no-chart"], "chart", False),
        (["--plain", "a b"], "plain", "a b"),
        (["--plain", "-a"], "plain", "-a"),
        (["--beginning"], "beginning", True),
        (["--no-beginning"], "beginning", False),
        (["--seed", "1", "--seed", "2"], "seed", 2),
    ],
)
def test_a_word_becomes_a_value_of_the_fields_type(words, field, value):
    assert asdict(parse(Config, words)) == asdict(Config()) | {field: value}


def test_help_shows_comments_and_defaults_of_own_and_inherited_fields(capsys):
    text = helped(capsys)
    for said in (
        "the only source of chance (default: 0)",
        "share, 50% by default (default: 0.5)",
        "{auto,hooked} which class (default: auto)",
        "candidate layers; all by default (default: None)",
        "coefficients (default: -1.0,0.0,1.0)",
        "where to (default: None)",
        "leave the slow part out (default: False)",
        "draw (default: True)",
        "--plain STR (default: x)",
        'A docstring below, "#" and all. (default: a,b)',
        "--tagged STR not what the quotes hold (default: '#')",
        "--debug, --no-debug show where an error comes from",
        "stands behind one without a comment (default: y)",
    ):
        assert said in text
    assert "A config dataclass is command line and help at once." in text


def test_a_tuple_without_a_default_is_the_words_themselves(capsys):
    assert parse(Merge, ["a", "b", "--seed", "1"]) == Merge((Path("a"), Path("b")), 1)
    assert "run folders" in helped(capsys, Merge)
    with pytest.raises(SystemExit) as ended:
        parse(Merge, [])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "x"], "Error parsing --seed: invalid literal for int() with base 10: 'x'"),
        (["--layers", "0,x"], "tuple[int, ...]: invalid literal for int() with base 10: 'x'"),
        (["--backend", "bridge"], "invalid choice 'bridge' for argument '--backend'. Expected one of ('auto', 'hooked')"),
        (["--sead", "1"], "Unrecognized options: --sead, 1"),
        (["--seed"], "Missing value for argument '--seed'"),
        (["--seed", "--rate", "1"], "Missing value for argument '--seed'"),
        (["--alpha", "-x"], "Error parsing --alpha: could not convert string to float: '-x'"),
        (["--quick", "-1"], "Unrecognized options: -1"),
    ],
)
def test_a_word_that_does_not_fit_ends_with_code_2_and_says_why(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        parse(Config, words)
    assert ended.value.code == 2
    assert message in in_one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("word", "nearest"), [("--sead", "--seed"), ("--alhpa", "--alpha"), ("--alphs", "--alphas"), ("--no-chrt", "--chart")]
)
def test_an_unknown_option_names_the_nearest(capsys, word, nearest):
    with pytest.raises(SystemExit) as ended:
        parse(Config, [word])
    assert ended.value.code == 2
    assert f" {nearest}" in in_one_line(capsys.readouterr().err).split("Perhaps you meant:")[1]


def test_run_gives_the_config_to_main_and_returns_what_it_returns():
    assert run(lambda config: config.seed + 1, Config, ["--seed", "4"]) == 5


ERRORS = [
    InputError("layer=14: use 0 to 11"),
    MissingFileError("no such file"),
    InputFileError("line one\nline two"),
    InputTypeError("a text"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_the_users_input_ends_with_code_2_and_one_line(capsys, error):
    def main(config):
        raise error

    with pytest.raises(SystemExit) as ended:
        run(main, Config, [])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"error: {' '.join(str(error).split())}\n")


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError, OSError, FileNotFoundError, KeyError, AssertionError])
@pytest.mark.parametrize("words", [[], ["--debug"]])
def test_an_error_of_ours_is_not_hidden(kind, words):
    def main(config):
        raise kind("ours")

    with pytest.raises(kind, match="ours"):
        run(main, Config, words)


@pytest.mark.parametrize(("error", "code"), [(InputError("layer=14"), 2), (KeyboardInterrupt(), 130)])
def test_debug_shows_where_an_error_comes_from(capsys, error, code):
    def main(config):
        assert config == Config(seed=1)
        raise error

    with pytest.raises(SystemExit) as ended:
        run(main, Config, ["--seed", "1", "--debug"])
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert "Traceback (most recent call last)" in said
    assert "in main" in said


def test_an_interrupt_ends_with_code_130(capsys):
    def main(config):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run(main, Config, [])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing half-written was kept\n"
