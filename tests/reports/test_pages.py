"""A page from a notebook is the page that a script writes, and evidence is computed once."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
from steerlab import plots
from steerlab.reports import runs, sections
from steerlab.reports.evidence import evidence
from steerlab.sweeps.sweep import SweepResult

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "analyses" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def experiment(model: Any, task: sl.Task) -> sl.Experiment:
    return sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4)


def stability(model: Any, task: sl.Task) -> Any:
    rng = np.random.default_rng([0, 0])
    return sl.seed_stability(model, task, rng=rng, sizes=(4, 8), seeds=2, subsets=2, n_shuffled=1, n_test=20, epochs=1)


def swept(model: Any, task: sl.Task) -> Any:
    train = sl.evaluate(model, task.train)
    directions = sl.contrast_directions(model, train, rng=np.random.default_rng([0, 0]), layers=[1, 3])
    return sl.sweep(model, task.validation, directions, alphas=[-3, 0, 1])


def critical(model: Any, task: sl.Task) -> Any:
    train = sl.evaluate(model, task.train)
    direction = sl.contrast_directions(model, train, rng=np.random.default_rng([0, 0]), layers=[3])[3]
    return sl.critical_tokens(model, task.test, direction, layer=3, alpha=-1.0)


def streamed(model: Any, task: sl.Task) -> Any:
    return sl.compare_eas(
        model, task.train[:60], layer=3, rng=np.random.default_rng([0, 0]), watcher=sl.Watcher(strength=0.3, clamp=0.5), timed=20
    )


@pytest.fixture(scope="module")
def small() -> tuple[Any, sl.Task, sl.Experiment]:
    """The embedded model, its problems and one small experiment, which is frozen."""
    model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
    return model, task, experiment(model, task)


STUDIES = {
    "random_control": (experiment, {"limit": 16, "layers": (3,), "alphas": (-2.0, 0.0, 2.0), "controls": 4}, {}),
    "seed_stability": (stability, {"limit": 40, "sizes": (4, 8), "seeds": 2, "subsets": 2, "shuffled": 1, "test": 20, "epochs": 1}, {}),
    "layer_alpha_heatmap": (
        swept,
        {"limit": 40, "layers": (1, 3), "alphas": (-3.0, 0.0, 1.0)},
        {"question": "At which layer and alpha does the mean difference of right and wrong answers move accuracy on arithmetic?"},
    ),
    "critical_tokens": (critical, {"limit": 20, "layer": 3}, {}),
    "eas": (streamed, {"limit": 60, "layer": 3, "problems": 60, "repeats": 1}, {}),
}


@pytest.mark.parametrize(
    "name", [name if name == "layer_alpha_heatmap" else pytest.param(name, marks=pytest.mark.slow) for name in STUDIES]
)
def test_the_page_of_a_result_in_a_notebook_is_the_page_of_the_script(name: str, tmp_path: Path) -> None:
    study, options, words = STUDIES[name]
    module = script(name)
    config = module.Config(**options, out=str(tmp_path / "run"))
    folder = module.main(config)
    model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=options["limit"])
    about = runs.provenance(model, config.recorded(), task)
    page = sl.write_report(tmp_path / "page.html", study(model, task), provenance=about, **words)
    assert page.read_bytes() == (folder / "report.html").read_bytes()


def test_a_result_needs_no_provenance_and_its_page_names_the_model_of_its_direction(small: Any, tmp_path: Path) -> None:
    found = small[2]
    assert "tiny-arithmetic" in sl.write_report(tmp_path / "page.html", found).read_text().split("</h1>")[0]
    page = sl.write_report(tmp_path / "sweep.md", found.test, question="Is this mine?").read_text()
    assert page.startswith("# Sweep: tiny-arithmetic\n")
    assert "Is this mine?" in page


def test_evidence_is_computed_once_for_terminal_folder_and_page(small: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, task, found = small
    found, times = replace(found), []
    real = SweepResult.max_statistic_test
    monkeypatch.setattr(SweepResult, "max_statistic_test", lambda self, **options: times.append(1) or real(self, **options))
    assert str(evidence(found))
    sl.save_experiment(tmp_path / "run", found, runs.provenance(model, {"seed": 0}, task))
    sl.write_report(tmp_path / "page.html", found)
    assert times == [1]


def test_parts_given_take_the_place_of_the_results_own_and_tables_are_added() -> None:
    own = {"title": "T", "question": "Q?", "answer": "A.", "tables": {"one": ("One.", pd.DataFrame({"n": [1]}))}}
    about = {"task": {"name": "sums"}, "model": {"name": "m"}}
    found = sections.result_parts(own, about, answer="B.", tables={"two": ("", pd.DataFrame({"n": [2]}))})
    assert (found["title"], found["answer"], list(found["tables"])) == ("T: sums, m", "B.", ["one", "two"])
    assert [table.caption for table in sections.page(found).tables] == ["One."]
    assert sections.result_parts(own, about, title="Mine")["title"] == "Mine"


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ([3], TypeError, "result is a int, which has no page"),
        ([plots], TypeError, "has no page"),
        ([{"title": "T"}, {"title": "T"}], ValueError, "2 results given; give one"),
    ],
)
def test_what_has_no_page_is_an_error(what: list[Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        sl.write_report(tmp_path / "page.html", *what)
