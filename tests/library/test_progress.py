"""How far a job is, told to whoever watches; no test here waits: the clock is the test's."""

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from steerlab import _progress
from steerlab._progress import Stages, job, progress_bar, say, say_forecast, with_options
from steerlab.cli.run import run

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_progress, "clock", clock)
    monkeypatch.setattr(_progress, "_pace", _progress._Pace())
    monkeypatch.setattr(_progress, "_open", [])
    return clock


def worked(clock: Clock, *, runs: int, seconds: float, total: int = 0, **options) -> None:
    """A job of so many runs, each of so many seconds."""
    with progress_bar(total=total or runs, **({"desc": "sweep", "unit": "run", "show": True} | options)) as bar:
        for _ in range(runs):
            clock.passes(seconds)
            bar.update()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    said = capsys.readouterr()
    assert said.out == ""
    assert "\r" not in said.err
    return said.err.splitlines()


def test_a_log_gets_a_line_a_minute_and_one_at_the_end(clock, capsys):
    worked(clock, runs=50, seconds=5)
    assert lines(capsys) == [
        "sweep: 50 runs, about 4 minutes on this machine",
        "sweep: 12 of 50 runs, 24%, 3:10 left",
        "sweep: 24 of 50 runs, 48%, 2:10 left",
        "sweep: 36 of 50 runs, 72%, 1:10 left",
        "sweep: 48 of 50 runs, 96%, 0:10 left",
        "sweep: 50 of 50 runs in 4:10",
    ]


def test_a_log_gets_no_line_from_a_job_under_a_minute(clock, capsys):
    worked(clock, runs=59, seconds=1)
    assert lines(capsys) == []


def test_what_is_not_shown_says_nothing(clock, capsys):
    worked(clock, runs=50, seconds=500, show=False)
    Stages(3, show=False).next("sweep")
    assert lines(capsys) == []


def test_short_pieces_that_follow_each_other_share_a_line_a_minute(clock, capsys):
    for _ in range(6):
        worked(clock, runs=4, seconds=5, desc="train", unit="row")
    assert lines(capsys) == ["train: 4 of 4 rows, 100%, 0:00 left", "train: 4 of 4 rows, 100%, 0:00 left"]  # at 60 and 120 of 120 seconds


def test_a_short_job_after_a_long_pause_leaves_no_line(clock, capsys):
    worked(clock, runs=4, seconds=5)
    clock.passes(3600)
    worked(clock, runs=4, seconds=5)
    assert lines(capsys) == []


def test_a_line_of_nested_work_says_where_in_the_outer_one_it_is(clock, capsys):
    for _ in progress_bar(range(3), desc="cells", unit="cell", show=True):
        worked(clock, runs=5, seconds=8, desc="evaluate", unit="row")
    assert lines(capsys) == [
        "cells: 3 cells, about 2 minutes on this machine",
        "cells 2 of 3, evaluate: 3 of 5 rows, 60%, 0:16 left",
        "cells: 3 of 3 cells in 2:00",
    ]


def test_what_was_done_before_counts_as_done_but_not_for_the_speed(clock, capsys):
    worked(clock, runs=8, seconds=10, total=100, initial=90)
    assert lines(capsys) == [
        "sweep: 10 runs, about 2 minutes on this machine",
        "sweep: 96 of 100 runs, 96%, 0:40 left",
        "sweep: 98 of 100 runs in 1:20",
    ]


def test_work_of_unknown_size_says_how_long_it_runs(clock, capsys):
    for _ in progress_bar(iter(range(7)), desc="read", unit="line", show=True):
        clock.passes(10)
    assert lines(capsys) == ["read: 6 lines, 1:00 so far", "read: 7 lines in 1:10"]


def test_a_job_that_breaks_off_leaves_the_next_one_outermost(clock, capsys):
    def broken() -> None:
        with progress_bar(total=2, desc="broken", unit="run", show=True) as bar:
            clock.passes(70)
            bar.update(1 // 0)

    with pytest.raises(ZeroDivisionError):
        broken()
    worked(clock, runs=7, seconds=10)
    assert lines(capsys) == [
        "sweep: 7 runs, about 1 minute on this machine",
        "sweep: 1 of 7 runs, 14%, 1:00 left",
        "sweep: 7 of 7 runs, 100%, 0:00 left",
        "sweep: 7 of 7 runs in 1:10",
    ]


def test_a_loop_that_an_error_ended_is_no_longer_open(clock, capsys):
    """Also while somebody holds the error, and with it the loop, as a notebook does."""

    @job("n")
    def broken(n: int) -> None:
        for _ in progress_bar(range(n), desc="broken", unit="run", show=True):
            clock.passes(1)
            n //= 0

    with pytest.raises(ZeroDivisionError) as held:
        broken(3)
    worked(clock, runs=7, seconds=10)
    assert lines(capsys)[0] == "sweep: 7 runs, about 1 minute on this machine"
    assert held.value.__traceback__ is not None


def test_without_standard_error_nothing_breaks(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    worked(clock, runs=50, seconds=5)
    say("nobody reads this")


class Drawn:
    """Stands for tqdm: keeps what it was asked to draw."""

    bars: list["Drawn"]
    written: list[tuple[str, object]]

    def __init__(self, **options) -> None:
        self.options, self.n, self.closed = options, 0, False
        self.bars.append(self)

    def update(self, n: int) -> None:
        self.n += n

    def set_postfix(self, **numbers) -> None:
        self.numbers = numbers

    def close(self) -> None:
        self.closed = True

    @classmethod
    def write(cls, text: str, file: object) -> None:
        cls.written.append((text, file))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> type[Drawn]:
    kind = type("Drawn", (Drawn,), {"bars": [], "written": []})
    monkeypatch.setattr(_progress, "_tqdm", lambda: kind)
    return kind


def in_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(config={"IPKernelApp": {}})))


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_a_terminal_and_a_notebook_get_bars_of_which_the_outermost_stays(drawn, clock, monkeypatch, capsys, where):
    if where == "notebook":
        in_a_kernel(monkeypatch)
    else:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in progress_bar(range(2), desc="cells", unit="cell", show=True):
        worked(clock, runs=5, seconds=0.01, desc="evaluate", unit="row")
    outer, *inner = drawn.bars
    assert (outer.options["desc"], outer.n, outer.closed, outer.options["leave"]) == ("cells", 2, True, True)
    assert [(bar.options["desc"], bar.n, bar.closed, bar.options["leave"]) for bar in inner] == [("evaluate", 5, True, False)] * 2
    assert lines(capsys) == []


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_lines_do_not_tear_bars(drawn, monkeypatch, where):
    """A notebook shows standard error on red: there they go to standard output, beneath the cell."""
    if where == "notebook":
        in_a_kernel(monkeypatch)
    else:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    Stages(4, show=True).next("controls")
    assert drawn.written == [("stage 1 of 4: controls", sys.stdout if where == "notebook" else sys.stderr)]


def test_a_notebook_without_ipywidgets_gets_text_and_no_warning(clock, monkeypatch, capsys):
    """Warnings are errors in this suite. The bar is tqdm's own, as `tqdm.auto` gives it in this environment."""
    in_a_kernel(monkeypatch)
    monkeypatch.delitem(sys.modules, "tqdm.auto", raising=False)
    monkeypatch.delitem(sys.modules, "tqdm.autonotebook", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "tqdm.notebook", raising=False)
    worked(clock, runs=5, seconds=0.01)
    assert "sweep: 100%" in capsys.readouterr().err


def test_stages_say_their_number_and_how_many_there_are(clock, capsys):
    stages = Stages(2, show=True)
    stages.next("evaluate")
    stages.next("controls at alpha -1")
    assert lines(capsys) == ["stage 1 of 2: evaluate", "stage 2 of 2: controls at alpha -1"]


def test_only_what_takes_over_a_minute_is_forecast(clock, capsys):
    say_forecast(72_000, 60)
    say_forecast(72_000, 236, extra=" in 9 stages")
    say_forecast(72_000, 2.5 * 3600)
    assert lines(capsys) == ["72,000 runs in 9 stages, about 4 minutes on this machine", "72,000 runs, about 2.5 hours on this machine"]


@dataclass(frozen=True)
class Config:
    """Options of a script."""

    limit: int = 20  # at most so many problems
    seed: int = 0  # chance


@job("problems", "n")
def inner(problems: int, *, n: int) -> None:
    say_forecast(problems * n, 120)


@job("task", "n_controls", "layers")
def outer(task: int, *, n_controls: int, layers: int = 1) -> None:
    inner(task, n=n_controls)


def test_a_forecast_names_the_parameters_of_the_function_that_was_called(clock, capsys):
    inner(20, n=3)
    outer(20, n_controls=3)
    assert lines(capsys) == [
        "60 runs, about 2 minutes on this machine; options that make it cheaper: problems, n",
        "60 runs, about 2 minutes on this machine; options that make it cheaper: task, n_controls, layers",
    ]


def test_a_forecast_in_a_script_names_the_options_that_it_has(clock, capsys):
    with_options(["limit", "controls", "seed"], outer)(20, n_controls=3)
    outer(20, n_controls=3)
    assert [line.partition(": ")[2] for line in lines(capsys)] == ["--limit, --controls", "task, n_controls, layers"]


def test_a_script_knows_its_options(clock, capsys):
    run(lambda config: outer(config.limit, n_controls=3), Config, ["--limit", "7"])
    assert lines(capsys) == ["21 runs, about 2 minutes on this machine; options that make it cheaper: --limit"]


def test_an_option_that_a_function_lacks_cannot_be_named():
    with pytest.raises(TypeError, match="inner has no parameter colour"):
        job("colour")(inner)


def test_all_modules_tell_their_progress_in_one_way():
    """tqdm is imported by one module; nobody makes bars of their own."""
    owners = []
    for path in [*(ROOT / "steerlab").rglob("*.py"), *(ROOT / "analyses").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            if any(name.partition(".")[0] == "tqdm" for name in names):
                owners.append(path.name)
    assert owners == ["_progress.py"]
