"""A run folder that was damaged, in whatever way, is refused with the name of the file and what to do, or holds the same as before.

Each damage is tried twice: as it is, where the seal notices it, and sealed again, as a program with a bug or a forger would leave it, where
the content itself must be looked at.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import steerlab as sl
from steerlab.reports import runs

REPORT = b"<!DOCTYPE html>"
OTHER = (None, True, -1, 0.5, 1e300, "text", "", [], [1], ["x"], {}, {"a": 1})


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_model, backends) -> Path:
    """A finished run; its report, which is never read, is shortened so that thousands of copies are made quickly."""
    model, task = toy_model(backends[-1]), sl.load_task("arithmetic", n_train=24, n_validation=6, n_test=6)
    found = sl.run_experiment(model, task, seed=0, layers=[0, 1], alphas=[-1, 0, 1], n_controls=2, n_same_cell=2, families=["orthogonal"])
    folder = sl.save_experiment(tmp_path_factory.mktemp("runs") / "run", found, runs.provenance(model, {"seed": 0}, task.about))
    (folder / "report.html").write_bytes(REPORT)
    reseal(folder)
    return folder


def reseal(folder: Path, **changes: object) -> None:
    """Make the digests those of the files as they are."""
    record = json.loads((folder / runs.PROVENANCE).read_text())
    for key in ("files", "sha256", "format"):
        del record[key]
    runs.write_provenance(folder, record | changes)


def content(found: tuple[sl.Experiment, dict]) -> str:
    """All that a loaded run says."""
    experiment, provenance = found
    tables = [experiment.validation.frame, experiment.test.frame, experiment.train.frame, experiment.side_effects.by_text]
    tables += [control.frame for control in (*experiment.controls, *experiment.families)]
    tables += [table for one in experiment.pipelines for table in (one.frame, one.outcomes, one.checks)]
    return repr([table.to_csv(index=False) for table in tables]) + repr(experiment.diagnostics) + json.dumps(provenance, sort_keys=True)


@pytest.fixture(scope="module")
def whole(run) -> str:
    return content(sl.load_experiment(run))


def refused_or_the_same(folder: Path, whole: str) -> bool:
    """Whether it was refused; the message names a file of the run (or the folder) and what to do."""
    found = loaded_or_refused(folder)
    if isinstance(found, str):
        assert re.search(r"run the script again|give a folder|give one that", found)
        return True
    assert content(found) == whole
    return False


def loaded_or_refused(folder: Path, name: str = "") -> tuple[sl.Experiment, dict] | str:
    """What was loaded, or the message, which names a file."""
    try:
        return sl.load_experiment(folder)
    except sl.InputError as error:
        said = str(error)
    assert str(folder / name) in said
    return said


def copy_of(run: Path, tmp: Path) -> Path:
    shutil.rmtree(tmp / "copy", ignore_errors=True)
    return Path(shutil.copytree(run, tmp / "copy"))


def files_of(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


NAMES = [
    *(
        "checks.parquet",
        "diagnostics.json",
        "direction.safetensors",
        "directions/layer-000.safetensors",
        "directions/layer-001.safetensors",
    ),
    *(
        "pipelines.parquet",
        "problems.parquet",
        "provenance.json",
        "report.html",
        "results.parquet",
        "side_effects.parquet",
        "side_effects_baseline.parquet",
    ),
]


def test_the_files_are_those_that_are_damaged_here(run):
    assert files_of(run) == NAMES


@settings(max_examples=examples(100), derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(NAMES),
    place=st.floats(0, 1, exclude_max=True),
    how=st.sampled_from(["cut", "flip", "add", "zero", "empty"]),
    bit=st.integers(0, 7),
)
def test_bytes_that_were_changed_are_noticed(run, whole, tmp_path_factory, name, place, how, bit):
    folder = copy_of(run, tmp_path_factory.getbasetemp())
    data = bytearray((folder / name).read_bytes())
    at = int(place * len(data))
    if how == "cut":
        data = data[:at]
    elif how == "flip":
        data[at] ^= 1 << bit
    elif how == "add":
        data[at:at] = b"\0"
    elif how == "zero":
        data[at:] = bytes(len(data) - at)
    else:
        data = bytearray()
    same = bytes(data) == (run / name).read_bytes()
    (folder / name).write_bytes(data)
    assert refused_or_the_same(folder, whole) or same or name == runs.PROVENANCE


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_is_named_and_a_foreign_one_does_not_matter(run, whole, tmp_path, name):
    folder = copy_of(run, tmp_path)
    (folder / "notes.txt").write_text("mine")
    (folder / "directions" / "mine.safetensors").write_text("mine")
    assert not refused_or_the_same(folder, whole)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        sl.load_experiment(folder)


def test_outcomes_that_were_inverted_are_noticed(run, tmp_path):
    folder = copy_of(run, tmp_path)
    table = pd.read_parquet(folder / "results.parquet")
    table["correct"] = ~table["correct"]
    table.to_parquet(folder / "results.parquet", index=False)
    with pytest.raises(
        sl.InputError, match=r"results\.parquet: does not match its sha256; the file was changed or damaged; run the script again"
    ):
        sl.load_experiment(folder)


@pytest.mark.parametrize("key", ["answer", "config", "experiment", "files", "model", "warnings", "versions"])
def test_what_the_provenance_says_cannot_be_changed_either(run, tmp_path, key):
    folder = copy_of(run, tmp_path)
    record = json.loads((folder / runs.PROVENANCE).read_text())
    for changed in ({**record, key: "other"}, {name: value for name, value in record.items() if name != key}):
        (folder / runs.PROVENANCE).write_text(json.dumps(changed))
        with pytest.raises(sl.InputError, match=r"provenance\.json: does not match its own sha256"):
            sl.load_experiment(folder)


def test_a_run_of_another_version_is_told_apart_from_a_damaged_one(run, tmp_path):
    folder = copy_of(run, tmp_path)
    record = json.loads((folder / runs.PROVENANCE).read_text())
    for format, said in (("steerlab-run-9", "'steerlab-run-9'"), (None, "None")):
        (folder / runs.PROVENANCE).write_text(json.dumps({**record, "format": format}))
        with pytest.raises(
            sl.InputError, match=rf"provenance\.json: format {said}; this version reads steerlab-run-2; run the script again"
        ):
            sl.load_experiment(folder)


# Sealed again


def paths_in(value: object, path: tuple = ()) -> list[tuple]:
    """Every place in a nested table, down to four steps."""
    if len(path) >= 4 or not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2])
    return ([path] if path else []) + [place for key, one in inner for place in paths_in(one, (*path, key))]


def changed(value: object, path: tuple, new: object) -> object:
    """A copy with another value (or, for Ellipsis, nothing) at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


@settings(max_examples=examples(120), derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), new=st.sampled_from([..., *OTHER]))
def test_a_description_of_an_experiment_that_makes_no_sense_is_refused(run, tmp_path_factory, data, new):
    folder = copy_of(run, tmp_path_factory.getbasetemp())
    about = json.loads((folder / runs.PROVENANCE).read_text())["experiment"]
    path = data.draw(st.sampled_from(paths_in(about)))
    reseal(folder, experiment=changed(about, path, new))
    found = loaded_or_refused(folder)
    if not isinstance(found, str):  # a setting, which is shown and not used
        assert len(found[0].test.frame) > 0


TABLES = [name for name in NAMES if name.endswith("parquet")]


@settings(max_examples=examples(120), derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    name=st.sampled_from(TABLES),
    how=st.sampled_from(["drop", "rename", "text", "number", "nan", "none", "empty", "head", "first"]),
)
def test_a_table_that_makes_no_sense_is_refused(run, tmp_path_factory, data, name, how):
    folder = copy_of(run, tmp_path_factory.getbasetemp())
    table = pd.read_parquet(folder / name)
    column = data.draw(st.sampled_from(list(table.columns)))
    if how == "drop":
        table = table.drop(columns=column)
    elif how == "rename":
        table = table.rename(columns={column: "other"})
    elif how in ("text", "number", "nan", "none"):
        table[column] = {"text": "x", "number": 3, "nan": np.nan, "none": None}[how]
    elif how == "empty":
        table = table.head(0)
    elif how == "head":
        table = table.head(len(table) // 2)
    else:
        table.loc[0, column] = table.loc[len(table) - 1, column]
    table.to_parquet(folder / name, index=False)
    reseal(folder)
    found = loaded_or_refused(folder)
    if not isinstance(found, str):
        assert len(found[0].test.frame) > 0


@pytest.mark.parametrize("cut", [0, 3, 100, -9])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_read_is_named(run, tmp_path, name, cut):
    folder = copy_of(run, tmp_path)
    (folder / name).write_bytes((run / name).read_bytes()[:cut])
    reseal(folder)
    with pytest.raises(
        sl.InputError, match=rf"{name}: not a table that can be read .*; the file was changed or damaged; run the script again"
    ):
        sl.load_experiment(folder)


def test_margins_that_are_nan_are_named_but_not_where_a_model_gave_nan(run, tmp_path):
    folder = copy_of(run, tmp_path)
    table = pd.read_parquet(folder / "results.parquet")
    steered = table.index[(table["split"] == "test") & (table["alpha"] == 1) & (table["stage"] == "sweep")][0]
    table.loc[steered, ["margin", "nll"]] = np.nan
    table.loc[steered, "prediction"], table.loc[steered, "correct"] = "", False
    table.to_parquet(folder / "results.parquet", index=False)
    reseal(folder)
    assert sl.load_experiment(folder)[0].test.frame["margin"].isna().sum() == 1
    table.loc[steered, "prediction"] = "A"
    table.to_parquet(folder / "results.parquet", index=False)
    reseal(folder)
    with pytest.raises(sl.InputError, match=rf"results\.parquet: the margin of line {steered} is NaN, though it has a prediction"):
        sl.load_experiment(folder)


@settings(max_examples=examples(60), derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), new=st.sampled_from([..., None, True, "text", [], {}, [1]]))
def test_diagnostics_that_make_no_sense_are_refused(run, tmp_path_factory, data, new):
    folder = copy_of(run, tmp_path_factory.getbasetemp())
    record = json.loads((folder / "diagnostics.json").read_text())
    path = data.draw(st.sampled_from(paths_in(record)))
    (folder / "diagnostics.json").write_text(json.dumps(changed(record, path, new)))
    reseal(folder)
    loaded_or_refused(folder, "diagnostics.json")
