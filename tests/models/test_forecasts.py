"""Every long job says before it starts how many runs it is made of, how long they take and what would make it cheaper; no test here waits."""

import ast
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import _progress
from steerlab._progress import ProgressBar, job
from steerlab.aft.evolution import evolve_vector
from steerlab.aft.objectives import ValidationScore
from steerlab.models.forecasts import Work, forecast
from steerlab.studies import grid
from steerlab.studies.eas.stream import run_eas
from steerlab.studies.grid import model_task_grid, run_grid
from steerlab.sweeps.choosing import coefficient_grid
from steerlab.sweeps.routing import evaluate_routed
from steerlab.validation.calibration import calibrate
from steerlab.validation.scenarios._common import LEVELS, Scenario

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def task() -> sl.Task:
    return sl.load_task("arithmetic", n_train=8, n_validation=6, n_test=6)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def along(layer: int) -> sl.Direction:
    return sl.Direction(torch.ones(32), layer=layer)


@cache
def variants(*names: str) -> dict[str, sl.Task]:
    return {name: sl.load_task("arithmetic", variant=name, limit=12) for name in names}


def cells(model: object, task: sl.Task, **options: Any) -> Any:
    made = model_task_grid(
        datasets=["arithmetic:bare", "arithmetic:story"], train=6, validation=4, test=4, layers=(1,), epochs=1, controls=2
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(grid, "load_model", lambda *_, **__: model)
        return run_grid(made, f"{folder}/grid", **options)


def simulated(model: object, task: sl.Task, **options: Any) -> Any:
    scenarios = [Scenario(name, "uniform", lambda rng: np.array([rng.random() <= level for level in LEVELS], float)) for name in "ab"]
    return calibrate(scenarios, simulations=20, **options)


JOBS: dict[str, Callable[..., Any]] = {
    "adaptive_aft": lambda m, t, **o: sl.adaptive_aft(
        m, t.train, validation=t.validation, layers=[0, 1], seeds=2, epochs=1, extend=1, select="retry", outcome=t.test, **o
    ),
    "cache_activations": lambda m, t, **o: sl.cache_activations(m, t.train, layers=[1], **o),
    "calibrate": simulated,
    "coefficient_grid": lambda m, t, **o: coefficient_grid(m, t.validation, t.test, along(1), coefficients=[0.5, 1.0], **o),
    "compare_context_vectors": lambda m, t, **o: sl.compare_context_vectors(
        m, t.train, t.validation, t.test, layer=1, rng=rng(), kinds=("static", "modulated"), n_train=6, seeds=(0, 1), epochs=1, **o
    ),
    "compare_eas": lambda m, t, **o: sl.compare_eas(m, t.train, layer=1, rng=rng(), variants=["watcher"], timed=2, **o),
    "compare_methods": lambda m, t, **o: sl.compare_methods(
        m,
        t,
        seed=0,
        methods=["mean_difference", "function_vector", "aft", "multilayer_aft", "prompt"],
        layers=[1],
        norms=[1.0, 2.0],
        kls=[0.01],
        n_controls=2,
        epochs=1,
        **o,
    ),
    "compare_protocols": lambda m, t, **o: sl.compare_protocols(
        m, t, rng=rng(), repetitions=2, n_train=6, n_validation=3, n_outcome=3, attempts=1, rapid_epochs=1, epochs=2, extend=0, **o
    ),
    "critical_tokens": lambda m, t, **o: sl.critical_tokens(m, t.test, along(1), alpha=1.0, **o),
    "evaluate": lambda m, t, **o: sl.evaluate(m, t.train, **o),
    "evaluate_routed": lambda m, t, **o: evaluate_routed(
        m, t.test, {"up": along(1), "none": None}, routes=["up", "none"] * 3, alpha=[1.0, 1.0, 2.0] * 2, **o
    ),
    "evolve_vector": lambda m, t, **o: evolve_vector(
        m, t.train, layer=1, rng=rng(), dimensions=4, generations=2, norm=1.0, validation=t.validation, **o
    ),
    "learn_context_vector": lambda m, t, **o: sl.learn_context_vector(
        m, t.train, layer=1, kind="dictionary", validation=t.validation, epochs=2, **o
    ),
    "learn_multilayer": lambda m, t, **o: sl.learn_multilayer(m, t.train, layers=[0, 1], epochs=2, **o),
    "learn_vector": lambda m, t, **o: sl.learn_vector(m, t.train, layer=1, validation=t.validation, epochs=2, early_stopping=None, **o),
    "learn_vectors": lambda m, t, **o: sl.learn_vectors(
        m, t.train, layers=[0, 1], seeds=2, validation=t.validation, halve_every=1, early_stopping=None, **o
    ),
    "multiverse": lambda m, t, **o: sl.multiverse(
        m, t, seed=0, layers=[0, 1], specs=sl.specifications(estimators=["mean_difference"], operators=["add"]), n_permutations=2, **o
    ),
    "pipeline_control": lambda m, t, **o: sl.pipeline_control(
        m, t.validation, t.test, {1: along(1)}, rule=sl.Grid((-1.0, 1.0)), rng=rng(), n=3, **o
    ),
    "preview": lambda m, t, **o: sl.preview(m, t.validation, along(1), **o),
    "random_control": lambda m, t, **o: sl.random_control(m, t.test, along(1), alpha=1.0, n=3, rng=rng(), **o),
    "run_eas": lambda m, t, **o: run_eas(m, t.train, layer=1, rng=rng(), **o),
    "run_experiment": lambda m, t, **o: sl.run_experiment(
        m, t, seed=0, layers=[0, 1], alphas=[-1.0, 0.0, 1.0], n_controls=2, n_same_cell=2, **o
    ),
    "run_grid": cells,
    "seed_stability": lambda m, t, **o: sl.seed_stability(
        m, t, rng=rng(), layer=1, sizes=(4, 8), seeds=2, subsets=1, n_shuffled=1, epochs=2, **o
    ),
    "self_refine": lambda m, t, **o: sl.self_refine(m, t.train, layer=1, validation=t.validation, rounds=2, epochs=1, **o),
    "side_effects": lambda m, t, **o: sl.side_effects(m, along(1), ["2 + 3 = 5", "4 + 4 = 8"], alphas=[-1.0, 1.0], **o),
    "successive_halving": lambda m, t, **o: sl.successive_halving(
        m, t.train, {0: along(0), 1: along(1)}, alphas=[-2, -1, 1, 2], rounds=3, rng=rng(), **o
    ),
    "sweep": lambda m, t, **o: sl.sweep(m, t.test, along(1), alphas=[-1.0, 1.0], **o),
    "token_magnitudes": lambda m, t, **o: sl.token_magnitudes(m, t.train, layers=[0, 1], **o),
    "transfer": lambda m, t, **o: sl.transfer(
        m,
        variants("story", "largest"),
        rng=rng(),
        layers=[1],
        alphas=[-1.0, 1.0],
        n_train=8,
        n_validation=4,
        n_random=2,
        n_shuffled=2,
        n_shuffled_learned=1,
        epochs=1,
        **o,
    ),
    "universal_booster": lambda m, t, **o: sl.universal_booster(
        m,
        variants("story", "equation", "largest"),
        rng=rng(),
        layers=[1],
        left_out=["largest"],
        n_train=6,
        n_validation=4,
        n_random=2,
        epochs=1,
        **o,
    ),
}
BY_THE_BAR = {"cache_activations", "evaluate", "preview", "run_eas", "token_magnitudes"}  # of one part; its first second is the timed batch


def passing(seconds: float) -> Callable[[], float]:
    """A clock by which so much passes between two looks at it."""
    ticks = count(0, seconds)
    return lambda: next(ticks)


def values(found: Any) -> Iterator[pd.DataFrame | torch.Tensor]:
    """All tables and vectors of a result, those of its parts included."""
    if isinstance(found, pd.DataFrame | torch.Tensor):
        yield found
    elif isinstance(found, tuple | list):
        for one in found:
            yield from values(one)
    elif isinstance(found, dict):
        yield from values(list(found.values()))
    elif is_dataclass(found):
        for field in fields(found):
            yield from values(getattr(found, field.name))


def test_no_job_is_forgotten():
    """All functions of the library that are jobs stand in the table here."""
    trees = (ast.walk(ast.parse(path.read_text())) for path in (ROOT / "steerlab").rglob("*.py"))
    functions = [node for tree in trees for node in tree if isinstance(node, ast.FunctionDef)]
    found = [one.name for one in functions if any(ast.unparse(decorator).startswith("job(") for decorator in one.decorator_list)]
    assert sorted(found) == sorted(JOBS)


LONGEST = {
    "compare_context_vectors",
    "compare_methods",
    "compare_protocols",
    "evolve_vector",
    "learn_context_vector",
    "learn_multilayer",
    "learn_vectors",
    "run_grid",
    "seed_stability",
    "side_effects",
    "successive_halving",
    "transfer",
    "universal_booster",
}  # three of each, up to ten seconds a job; how many runs they say is counted below in any case


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONGEST else name for name in JOBS])
def test_a_long_job_says_once_what_it_is_made_of_and_a_short_one_nothing(toy_model, backends, task, capsys, monkeypatch, name):
    """What is said, and the batches that are timed for it, change nothing of what is found."""
    model, found = toy_model(backends[0]), {}
    for pace, show in ((0.0, False), (100.0, True), (0.0, True)):
        monkeypatch.setattr(_progress, "clock", passing(pace))
        monkeypatch.setattr(_progress, "_pace", _progress._Pace())
        found[pace, show] = list(values(JOBS[name](model, task, progress=show)))
        said = [line for line in capsys.readouterr().err.splitlines() if "on this machine" in line]
        if not pace:
            assert said == []
            continue
        assert len(said) == 1
        assert re.search(
            r"[\d,]+ (run|row|problem|prompt|simulation)s.*, about [\d.]+ (minutes?|hours|days) on this machine; options that make it cheaper: \w",
            said[0],
        )
        assert said[0][0].isdigit() == (name not in BY_THE_BAR)
    quiet = found[0.0, False]
    assert quiet or name in ("calibrate", "cache_activations", "run_grid")
    for other in found.values():
        assert len(other) == len(quiet)
        assert all(a.equals(b) if isinstance(a, pd.DataFrame) else a.equal(b) for a, b in zip(quiet, other, strict=True))


OF_SEVERAL_TASKS = ("run_grid", "transfer", "universal_booster")
AT_MOST = {"adaptive_aft", "calibrate", "compare_eas", "multiverse", "pipeline_control", "run_experiment", "self_refine"}
EXACT = [name for name in JOBS if name not in BY_THE_BAR | AT_MOST]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in OF_SEVERAL_TASKS else name for name in EXACT])
def test_as_many_runs_are_done_as_were_said(toy_model, backends, task, monkeypatch, name):
    """Oracle: what bars and validations count while the job runs. Searches for a KL depend on what is found, and are left out."""
    said, done = list[Work](), Counter[str]()
    update, measure = ProgressBar.update, ValidationScore.__call__

    def counted(bar: ProgressBar, n: int = 1) -> None:
        done[bar.unit if bar.unit == "run" else bar.desc] += n
        update(bar, n)

    def measured(score: ValidationScore, parameters: Any) -> Any:
        done["validation"] += len(parameters) * len(score._plan.rows)
        return measure(score, parameters)

    monkeypatch.setattr(Work, "seconds", lambda work: said.append(work) or 0.0)
    monkeypatch.setattr(ProgressBar, "update", counted)
    monkeypatch.setattr(ValidationScore, "__call__", measured)
    options = {"matchings": ["norm"]} if name == "compare_methods" else {}
    JOBS[name](toy_model(backends[0]), task, progress=True, **options)
    assert sum(work.runs for work in said if work.kind == "training") == done["train"]
    assert sum(work.runs for work in said) == sum(done[kind] for kind in ("train", "validation", "evaluate", "run"))


def test_a_job_that_is_part_of_another_says_nothing_of_its_own(capsys, monkeypatch):
    """Nor is anything timed for it."""
    timed = []

    @job("n")
    def inner(n: int) -> None:
        forecast(None, [Work("inner", n, range(n), lambda some: timed.append("inner") or len(some))], show=True)

    @job("n")
    def outer(n: int) -> None:
        forecast(None, [Work("outer", 3 * n, range(n), lambda some: timed.append("outer") or len(some))], show=True, extra=" in 3 parts")
        for _ in range(3):
            inner(n)

    monkeypatch.setattr(_progress, "clock", passing(20))
    outer(50)
    assert capsys.readouterr().err == "150 runs in 3 parts, about 50 minutes on this machine; options that make it cheaper: n\n"
    assert timed == ["outer"]
    inner(50)
    assert capsys.readouterr().err == "50 runs, about 17 minutes on this machine; options that make it cheaper: n\n"


@pytest.mark.parametrize(
    ("each", "batches", "seconds"),
    [
        (0.0001, [1, 4, 16, 64], 0.12),  # 64 of 1200 runs are a twentieth
        (0.1, [1, 4, 16], 120),  # a second is enough
        (3.0, [1, 1], 3600),  # a first batch is timed again
        (30.0, [1], 36_000),  # unless that takes long
    ],
)
def test_a_batch_is_as_large_as_the_work_is_worth(monkeypatch, each, batches, seconds):
    clock, done = 0.0, []

    def run(some: range) -> int:
        nonlocal clock
        clock += each * len(some)
        done.append(len(some))
        return len(some)

    monkeypatch.setattr(_progress, "clock", lambda: clock)
    assert Work("runs", 1200, range(1000), run).seconds() == pytest.approx(seconds)
    assert done == batches


def test_what_a_first_batch_waits_for_is_not_taken_for_work(monkeypatch):
    clock, calls = 0.0, count()

    def run(some: range) -> int:
        nonlocal clock
        clock += 3.0 if next(calls) == 0 else 0.02
        return len(some)

    monkeypatch.setattr(_progress, "clock", lambda: clock)
    assert Work("runs", 1200, range(10), run).seconds() == pytest.approx(24)


def test_work_of_which_there_is_none_is_not_timed(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "clock", passing(20))
    forecast(None, [Work("none", 0, range(3), pytest.fail), Work("empty", 3, [], pytest.fail), Work("some", 6, "ab", len)], show=True)
    assert capsys.readouterr().err == "6 runs, about 2 minutes on this machine\n"
