"""The main job says what it is made of, and is made of that."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from itertools import count

import numpy as np
import pytest

import steerlab as sl
from steerlab import _progress
from steerlab._progress import ProgressBar, with_options
from steerlab.cli.options import Setup
from steerlab.controls.pipelines import Choice
from steerlab.studies.protocol import workload

SMALL = {"layers": [0, 1], "alphas": (-2.0, 0.0, 1.0), "n_controls": 4, "n_same_cell": 4}
TEXTS = ["2 + 3 = 5", "4 + 4 = 8", "7 - 2 = 5"]
# Rows are problems: each asks for one token. Train 30; validation 10 x (1 + 2 layers x 2 alphas); two kinds of 1 + 4 pipelines, each 10 x 4
# candidates and 12 x 2 goals; test 12 x (1 + 2 layers x 2); controls 12 x (2 + 4) at each of two cells and in one family; side effects
# 3 x (2 layers x (1 + 2) + 2 x 5).
BY_HAND = 30 + 10 * 5 + 2 * 5 * (10 * 4 + 12 * 2) + 12 * 5 + 3 * 12 * 6 + 3 * 16


@pytest.fixture(scope="module")
def task() -> sl.Task:
    return sl.load_task("arithmetic", n_train=30, n_validation=10, n_test=12)


def announced(capsys: pytest.CaptureFixture[str]) -> list[tuple[int, int, str]]:
    found = re.findall(r"^stage (\d+) of (\d+): (.+)$", capsys.readouterr().err, re.M)
    return [(int(k), int(n), name) for k, n, name in found]


@pytest.mark.parametrize(
    ("options", "total"),
    [
        pytest.param({}, 10, marks=pytest.mark.slow),  # the forecast below counts these, too
        ({"families": ()}, 9),
        pytest.param({"families": ("orthogonal", "covariance_matched", "shuffled_labels", "equal_kl")}, 13, marks=pytest.mark.slow),
        ({"operator": "ablate", "alphas": (-1.0, -0.5, 0.0)}, 9),
    ],
)
def test_every_stage_is_announced_and_there_are_as_many_as_was_said(toy_model, task, capsys, options, total):
    found = sl.run_experiment(toy_model("bridge"), task, seed=0, progress=True, **(SMALL | options))
    said = announced(capsys)
    assert [(k, n) for k, n, _ in said] == [(k, total) for k in range(1, total + 1)]
    names = [name for *_, name in said]
    assert names[0] == "evaluate 30 train problems"
    assert names[3:5] == ["at most 4 random pipelines", "at most 4 shuffled-label pipelines"]
    assert names[6] == f"random directions at layer {found.layer}, alpha {found.alpha:g}"
    assert names[9:] == [f"controls of the family {family.family}" for family in found.families]


def test_without_progress_nothing_is_said_or_timed(toy_model, task, capsys):
    sl.run_experiment(toy_model("bridge"), task, seed=0, **SMALL)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_progress_changes_no_number(toy_model, task):
    quiet, told = (sl.run_experiment(toy_model("bridge"), task, seed=0, progress=show, **SMALL) for show in (False, True))
    assert quiet.test.frame.equals(told.test.frame)
    assert all(a.frame.equals(b.frame) for a, b in zip(quiet.controls + quiet.families, told.controls + told.families, strict=True))


@pytest.mark.parametrize("alphas", [(-2.0, 0.0, 1.0), pytest.param((-1.0, -0.5, 0.0), marks=pytest.mark.slow)])
def test_the_runs_counted_before_are_the_runs_done(toy_model: Callable[[str], object], task, monkeypatch, alphas):
    """Oracle: what the engine itself counts while it runs, and for the first case a count by hand."""
    model, options, done = toy_model("bridge"), SMALL | {"alphas": alphas}, Counter[str]()
    families, kinds = ("equal_kl",), ("random", "shuffled_labels")
    update = ProgressBar.update

    def counted(self: ProgressBar, n: int = 1) -> None:
        if self._where:
            done[self.desc] += n
        update(self, n)

    monkeypatch.setattr(ProgressBar, "update", counted)
    found = sl.run_experiment(model, task, seed=0, texts=TEXTS, families=families, progress=True, **options)
    work = workload(
        model, task, TEXTS, layers=2, alphas=alphas, n_controls=4, n_same_cell=4, families=families, pipelines=kinds, choose="shortlist", choice=Choice()
    )  # fmt: skip
    layers, cells = len(set(found.test.frame["layer"])), len(found.controls)  # both goals may have the same layer, or even cell
    acting = sum(alpha != 0 for alpha in alphas)
    assert done["evaluate"] == work.train
    assert done["sweep"] == work.validation + work.test - (2 - layers) * acting * 12
    assert [done[f"{kind} pipelines"] for kind in ("random", "shuffled-label")] == list(work.pipelines.values())
    assert done["control"] == cells * work.controls + sum(work.families.values())
    assert done["side effects"] == work.effects - len(TEXTS) * ((2 - layers) * (1 + acting) + (2 - cells) * 5)
    if len(alphas) == 3:
        assert work.runs == BY_HAND


class Slow:
    """A clock by which everything takes long."""

    def __init__(self) -> None:
        self._ticks = count(0, 20)

    def __call__(self) -> float:
        return next(self._ticks)


def test_a_long_job_is_forecast_once_before_its_first_stage(toy_model, task, capsys, monkeypatch):
    monkeypatch.setattr(_progress, "clock", Slow())
    sl.run_experiment(toy_model("bridge"), task, seed=0, texts=TEXTS, progress=True, **SMALL)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"{BY_HAND:,} runs in 10 stages, beside a search for controls of equal KL, at most: hopeless cases end early, about .+ on this machine; "
        "options that make it cheaper: task, layers, alphas, measure, choose, n_controls, n_same_cell, families",
        lines[0],
    )
    assert lines[1].startswith("stage 1 of 10: ")
    assert sum("on this machine" in line for line in lines) == 1


def test_a_script_is_told_of_its_own_options(toy_model, task, capsys, monkeypatch):
    monkeypatch.setattr(_progress, "clock", Slow())
    names = [*(field.name for field in fields(Setup)), "layers", "alphas", "choose", "controls", "same_cell", "families", "operator"]
    with_options(names, sl.run_experiment)(toy_model("bridge"), task, seed=0, texts=TEXTS, families=(), progress=True, **SMALL)
    assert (
        capsys.readouterr()
        .err.splitlines()[0]
        .endswith("make it cheaper: --limit, --layers, --alphas, --choose, --controls, --same-cell, --families")
    )


def tasks() -> dict[str, sl.Task]:
    return {name: sl.load_task("arithmetic", variant=name, limit=24) for name in ("story", "equation", "largest")}


LONGEST = ("compare_protocols", "transfer", "universal_booster")
JOBS = {
    "transfer": (
        lambda model, task, rng: sl.transfer(
            model,
            {name: one for name, one in tasks().items() if name != "equation"},
            rng=rng,
            methods=["mean_difference"],
            layers=[1],
            alphas=[-1.0, 1.0],
            n_train=24,
            n_validation=12,
            n_random=2,
            n_shuffled=2,
            progress=True,
        ),
        4,
    ),
    "universal_booster": (
        lambda model, task, rng: sl.universal_booster(
            model, tasks(), rng=rng, layers=[1], left_out=["largest"], n_train=8, n_validation=6, n_random=2, epochs=1, progress=True
        ),
        8,
    ),
    "seed_stability": (
        lambda model, task, rng: sl.seed_stability(
            model, task, rng=rng, layer=1, sizes=(4, 8), seeds=2, subsets=1, n_shuffled=1, epochs=1, progress=True
        ),
        5,
    ),
    "compare_protocols": (
        lambda model, task, rng: sl.compare_protocols(
            model, task, rng=rng, repetitions=2, n_train=6, n_validation=4, n_outcome=4, attempts=1, rapid_epochs=1, epochs=1, progress=True
        ),
        3,
    ),
    "compare_methods": (
        lambda model, task, rng: sl.compare_methods(
            model,
            task,
            seed=0,
            methods=["mean_difference", "prompt"],
            matchings=["norm"],
            layers=[1],
            norms=[2.0],
            n_controls=2,
            progress=True,
        ),
        4,
    ),
    "compare_methods without vectors": (
        lambda model, task, rng: sl.compare_methods(model, task, seed=0, methods=["prompt"], n_controls=2, progress=True),
        5,
    ),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONGEST else name for name in JOBS])
def test_other_jobs_of_several_stages_announce_them_all(toy_model, task, capsys, name):
    run, total = JOBS[name]
    run(toy_model("bridge"), task, np.random.default_rng(0))
    assert [(k, n) for k, n, _ in announced(capsys)] == [(k, total) for k in range(1, total + 1)]


def test_a_terminal_gets_the_bars_of_evaluation_caching_sweeps_and_training(toy_model, task, capsys, monkeypatch):
    """The bars are tqdm's own."""
    model, problems = toy_model("bridge"), task.train[:8]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    sl.cache_activations(model, problems, layers=[1], progress=True)
    learned = sl.learn_vector(model, problems, layer=1, epochs=1, batch_size=4, progress=True)
    sl.sweep(model, problems, learned, alphas=[1.0], progress=True)
    said = capsys.readouterr().err
    assert re.search(r"cache: 100%.* 8/8 ", said)
    assert re.search(r"train: 100%.* 8/8 .*loss=\d", said)
    assert re.search(r"sweep: 100%.* 16/16 ", said)
