"""Progress of long jobs: a bar in a terminal or notebook, a line a minute in a log, and a forecast before the job starts."""

import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import signature
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

MINUTE = 60.0  # seconds between the lines of a log; a job that takes longer is forecast
FIRST = 1.0  # seconds of work that a forecast is made from
# What scripts call parameters, where it is another word; "n_" is left out there.
OPTIONS = {
    "problems": ("problems", "limit"),
    "task": ("limit",),
    "tasks": ("tasks", "limit"),
    "n": ("controls",),
    "directions": ("layers",),
    "cells": ("models", "datasets"),
}

clock: Callable[[], float] = time.monotonic
_options: ContextVar[Collection[str] | None] = ContextVar("options", default=None)  # of the script that runs
_cheaper: ContextVar[tuple[str, ...] | None] = ContextVar("cheaper", default=None)  # parameters of the outermost job
_forecast: ContextVar[bool] = ContextVar("forecast", default=False)  # whether the outermost job has said how long it takes
_note: ContextVar[str] = ContextVar("note", default="")  # what a forecast says of the machine
_open: list["ProgressBar"] = []  # bars that are being shown, outer ones first


class _Pace:
    """When a log got its last line. Bars that follow on each other count as one job."""

    line = seen = float("-inf")

    def begin(self, now: float) -> None:
        if not _open and now - self.seen > MINUTE:
            self.line = now
        self.seen = now


_pace = _Pace()


class ProgressBar:
    """Counts what is done; see `progress_bar`."""

    def __init__(
        self, iterable: Iterable[Any] | None, desc: str, unit: str, total: int | None, initial: int, *, show: bool, foretold: bool
    ) -> None:
        self.desc, self.unit, self.total, self.initial, self.n = desc, unit, total, initial, initial
        self._iterable, self._where = iterable, _where() if show else ""
        self._drawn: Any = None
        self._begun = clock()
        self._forecast = bool(show and total) and not foretold and not _forecast.get()

    def __enter__(self) -> Self:
        self._begun = clock()
        self._forecast = self._forecast and not _open
        if self._where:
            _pace.begin(self._begun)
            if self._where != "log":
                # Of nested bars the outermost stays.
                self._drawn = _tqdm()(total=self.total, initial=self.initial, desc=self.desc, unit=self.unit, leave=not _open)
            _open.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shown = self in _open
        self.close()
        now = clock()
        if shown and self._drawn is None and kind is None and now - self._begun >= MINUTE:
            self._line(now, f"{self._count()} in {_span(now - self._begun)}")

    def close(self) -> None:
        """Nothing more is shown."""
        if self in _open:
            _open.remove(self)
            _pace.seen = clock()
        if self._drawn is not None:
            self._drawn.close()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for one in self._iterable or ():
                yield one
                self.update()

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self.n += n
        if not self._where:
            return
        now = clock()
        _pace.seen = now
        done, elapsed = self.n - self.initial, now - self._begun
        if self._forecast and not _forecast.get() and done > 0 and elapsed >= FIRST and self.total is not None:
            self._forecast = False
            say_forecast(self.total - self.initial, (self.total - self.initial) * elapsed / done, unit=self.unit, what=f"{self.desc}: ")
        if self._drawn is not None:
            self._drawn.update(n)
        elif now - _pace.line >= MINUTE:
            self._line(now, self._state(done, elapsed))

    def set_postfix(self, **numbers: str) -> None:
        """Numbers that stand behind the bar."""
        if self._drawn is not None:
            self._drawn.set_postfix(refresh=False, **numbers)

    def _line(self, now: float, text: str) -> None:
        _pace.line = now
        outer = "".join(f"{bar.desc} {bar.n + 1}" + (f" of {bar.total}, " if bar.total else ", ") for bar in _open if bar is not self)
        _write(f"{outer}{self.desc}: {text}")

    def _count(self) -> str:
        return f"{self.n}{'' if self.total is None else f' of {self.total}'} {self.unit}s"

    def _state(self, done: int, elapsed: float) -> str:
        if not self.total or done <= 0:
            return f"{self._count()}, {_span(elapsed)} so far"
        left = (self.total - self.n) * elapsed / done
        return f"{self._count()}, {100 * self.n // self.total}%, {_span(left)} left"


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    show: bool,
    total: int | None = None,
    initial: int = 0,
    foretold: bool = False,
) -> ProgressBar:
    """What tells how far a piece of work is.

    In a terminal and in Jupyter it is a bar. Where standard error is neither (a log file, CI) it is a line a minute at most, and one at the end
    of what took longer; nothing is overwritten there. Work of more than a minute is forecast from what was done in its first second.

    Args:
        iterable: what to go through; without it, use the bar as a context and call `update`.
        desc: what is done.
        unit: what is counted, in the singular.
        show: False shows nothing.
        total: how many there are; default the length of `iterable`.
        initial: how many are done already.
        foretold: what takes over a minute has been forecast already.

    Example:
        >>> with progress_bar(total=3, desc="sweep", unit="run", show=False) as bar:
        ...     bar.update(2)
        >>> bar.n
        2
        >>> list(progress_bar("ab", desc="letters", unit="letter", show=False))
        ['a', 'b']
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(cast("Sized", iterable))
    return ProgressBar(iterable, desc, unit, total, initial, show=show, foretold=foretold)


class Stages:
    """Says which part of a job begins, and how many there are.

    Args:
        total: how many parts the job has.
        show: False says nothing.
    """

    def __init__(self, total: int, *, show: bool) -> None:
        self.total, self.n, self._show = total, 0, show

    def next(self, name: str) -> None:
        """A part begins."""
        self.n += 1
        if self._show:
            say(f"stage {self.n} of {self.total}: {name}")


def say(text: str) -> None:
    """A line for whoever watches: on standard error, in a notebook beneath its cell; bars that are being drawn stay whole."""
    where = _where()
    if where in ("", "log"):
        _write(text)
    else:
        _tqdm().write(text, file=sys.stderr if where == "terminal" else sys.stdout)


def say_forecast(runs: int, seconds: float, *, unit: str = "run", what: str = "", extra: str = "") -> None:
    """Where a job will take over a minute: how many runs it is made of, how long they take, and which options make it cheaper.

    Args:
        runs: how many.
        seconds: how long they take.
        unit: what is counted, in the singular.
        what: said first.
        extra: said behind the number of runs.
    """
    if seconds <= MINUTE:
        return
    names = cheaper_options()
    cheaper = f"; options that make it cheaper: {', '.join(names)}" if names else ""
    say(f"{what}{runs:,} {unit}s{extra}, about {_words(seconds)} on this machine{_note.get()}{cheaper}")


def cheaper_options() -> list[str]:
    """Options that make the running job cheaper: of the script where one runs, otherwise parameters of the function that was called."""
    names, options = _cheaper.get() or (), _options.get()
    if options is None:
        return list(names)
    asked = dict.fromkeys(name for one in names for name in OPTIONS.get(one, (one, one.removeprefix("n_"))) if name in options)
    return [f"--{name.replace('_', '-')}" for name in asked]


def job(*cheaper: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for what a user calls: which of its parameters make it cheaper. Of nested calls the outermost counts."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        unknown = set(cheaper) - set(signature(function).parameters)
        if unknown:
            raise TypeError(f"{function.__name__} has no parameter {', '.join(sorted(unknown))}")

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bars, outermost = len(_open), _cheaper.get() is None
            tokens = (_cheaper.set(cheaper), _forecast.set(False)) if outermost else None
            try:
                return function(*args, **kwargs)
            finally:
                if tokens is not None:
                    _cheaper.reset(tokens[0])
                    _forecast.reset(tokens[1])
                for bar in reversed(_open[bars:]):  # of a loop that an error ended, which the error's traceback keeps alive
                    bar.close()

        return call

    return decorate


def forecast_made() -> None:
    """The running job has said how long all of it takes: its parts say no more about it."""
    if _cheaper.get() is not None:
        _forecast.set(True)


def forecast_wanted() -> bool:
    """Whether nobody has said yet how long all of the running job takes."""
    return not _forecast.get()


@contextmanager
def noting(text: str) -> Iterator[None]:
    """While this lasts, forecasts say so of the machine."""
    outer = _note.set(text)
    try:
        yield
    finally:
        _note.reset(outer)


def with_options(options: Collection[str], main: Callable[P, R]) -> Callable[P, R]:
    """A script's main function; while it runs, what makes a job cheaper is named as the script's options."""

    @wraps(main)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        outer = _options.set(frozenset(options))
        try:
            return main(*args, **kwargs)
        finally:
            _options.reset(outer)

    return call


def _where() -> str:
    """Who reads: "notebook", "terminal", "log", or nobody."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and "IPKernelApp" in shell.config:
        return "notebook"
    if sys.stderr is None:
        return ""
    return "terminal" if sys.stderr.isatty() else "log"


def _tqdm() -> Any:
    """The bar of a terminal or, in Jupyter with ipywidgets, of a notebook."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets tqdm warns, and draws its text bar
        from tqdm.auto import tqdm
    return tqdm


def _write(text: str) -> None:
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    """Hours, minutes and seconds: 0:09, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _words(seconds: float) -> str:
    if seconds < 90 * MINUTE:
        minutes = max(1, round(seconds / MINUTE))
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 10 else f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
