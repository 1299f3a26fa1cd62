"""What is written can be read back, byte for byte the same, and nothing is ever half there."""

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import steerlab as sl
from steerlab.aft import training
from steerlab.aft.learnables import ModulatedVector
from steerlab.reports import runs
from steerlab.reports import runs as store

FIELDS = ("layer", "site", "positions", "name", "method", "model")


def direction(*shape: int, **options) -> sl.Direction:
    vector = torch.randn(*shape, 8, generator=torch.Generator().manual_seed(0))
    model = {"name": "tiny", "revision": None, "processing": "raw", "n_layers": 3}
    settings = {"site": "resid_mid", "name": "rechts → links", "method": {"estimator": "hand", "n": 3, "share": 0.5}, "model": model}
    return sl.Direction(vector, 2, **(settings | options))


# Vector files


@pytest.mark.parametrize(("shape", "positions"), [((), "last"), ((), "mean"), ((), (-1,)), ((3,), (0, 4, -1)), ((2,), "all")])
def test_a_direction_comes_back_with_everything_it_knew(tmp_path, shape, positions):
    saved = direction(*shape, positions=positions)
    assert sl.save_direction(tmp_path / "new" / "d.safetensors", saved) == tmp_path / "new" / "d.safetensors"
    loaded = sl.load_direction(tmp_path / "new" / "d.safetensors")
    assert torch.equal(loaded.vector, saved.vector)
    for name in FIELDS:
        assert getattr(loaded, name) == getattr(saved, name)


def test_a_mean_difference_comes_back_and_is_refused_where_it_does_not_belong(tmp_path, toy_model, backend):
    model = toy_model(backend)
    problems = sl.load_task("arithmetic", n_train=6, n_validation=0, n_test=0).train
    acts = sl.cache_activations(model, problems, layers=[1])
    ids = [problem.id for problem in problems]
    saved = sl.mean_difference(acts.select(ids[:3]), acts.select(ids[3:]), layer=1)
    sl.save_direction(tmp_path / "d.safetensors", saved)
    loaded = sl.load_direction(tmp_path / "d.safetensors")
    assert (torch.equal(loaded.vector, saved.vector), loaded.model) == (True, saved.model)
    elsewhere = sl.Direction(loaded.vector, 1, model={**loaded.model, "processing": "processed"})
    with pytest.raises(ValueError, match="found in a model with processed weights"), sl.steer(model, elsewhere):
        pass


def test_the_same_direction_gives_the_same_bytes(tmp_path):
    first, again = (sl.save_direction(tmp_path / name, direction()).read_bytes() for name in ("a", "b"))
    assert first == again


@pytest.mark.slow
def test_the_same_direction_gives_the_same_bytes_in_another_process(tmp_path):
    here = sl.save_direction(tmp_path / "here", sl.Direction(torch.arange(1.0, 9.0), 2, method={"a": 1, "b": 2, "c": 3}))
    code = (
        "import sys, torch, steerlab as sl\n"
        "sl.save_direction(sys.argv[1], sl.Direction(torch.arange(1.0, 9.0), 2, method={'c': 3, 'b': 2, 'a': 1}))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "there"], check=True)
    assert here.read_bytes() == (tmp_path / "there").read_bytes()


def test_other_tools_can_read_the_vector(tmp_path):
    """Oracle: safetensors itself."""
    sl.save_direction(tmp_path / "d.safetensors", direction())
    assert torch.equal(load_file(tmp_path / "d.safetensors")["vector"], direction().vector)


def test_an_older_file_is_replaced_and_nothing_else_is_left_beside_it(tmp_path):
    sl.save_direction(tmp_path / "d", direction())
    sl.save_direction(tmp_path / "d", direction(name="newer"))
    assert sl.load_direction(tmp_path / "d").name == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_vector_that_was_changed_is_noticed(tmp_path):
    content = bytearray(sl.save_direction(tmp_path / "d", direction()).read_bytes())
    content[-1] ^= 1
    (tmp_path / "d").write_bytes(content)
    with pytest.raises(ValueError, match="vector and description do not match their sha256; the file was changed or damaged"):
        sl.load_direction(tmp_path / "d")


@pytest.mark.parametrize("keep", [0, 4, 100, -3])
def test_a_file_that_was_cut_is_noticed(tmp_path, keep):
    content = sl.save_direction(tmp_path / "d", direction()).read_bytes()
    (tmp_path / "d").write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"not a readable safetensors file .*; it is damaged or of another kind"):
        sl.load_direction(tmp_path / "d")


def rewritten(path, **changes) -> None:
    """The file with other values in its description; None takes one away."""
    sl.save_direction(path, direction())
    about = json.loads(safe_open(path, framework="pt").metadata()["steerlab"]) | changes
    save_file(load_file(path), path, metadata={"steerlab": json.dumps({k: v for k, v in about.items() if v is not None})})


def test_a_layer_that_was_changed_is_noticed(tmp_path):
    rewritten(tmp_path / "d", layer=5)
    with pytest.raises(ValueError, match="vector and description do not match their sha256"):
        sl.load_direction(tmp_path / "d")


def test_a_file_of_a_later_version_is_refused(tmp_path):
    rewritten(tmp_path / "d", format="steerlab-direction-9")
    with pytest.raises(ValueError, match="format 'steerlab-direction-9'; this version reads steerlab-direction-1"):
        sl.load_direction(tmp_path / "d")


@pytest.mark.parametrize("field", ["layer", "sha256", "positions", "model"])
def test_a_description_that_lacks_something_is_refused(tmp_path, field):
    rewritten(tmp_path / "d", **{field: None})
    with pytest.raises(ValueError, match=f"its description lacks '{field}'; the file was changed or damaged"):
        sl.load_direction(tmp_path / "d")


def test_a_description_that_is_not_json_is_refused(tmp_path):
    save_file({"vector": torch.ones(4)}, tmp_path / "d", metadata={"steerlab": "{"})
    with pytest.raises(ValueError, match="d: its description is not JSON"):
        sl.load_direction(tmp_path / "d")


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "w")
    with pytest.raises(ValueError, match=r"a safetensors file, but not a steerlab direction; its keys are \['w'\]"):
        sl.load_direction(tmp_path / "w")


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no such file; give a direction that steerlab\.save_direction wrote"):
            sl.load_direction(path)


# Reports and run folders


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    parts = {"title": "T", "question": "Q?", "answer": "A."}
    assert "<h1>" in sl.write_report(tmp_path / "out" / "report.html", **parts).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="answer: empty"):
        sl.write_report(tmp_path / "out" / "report.html", **(parts | {"answer": " "}))
    assert "A." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def a_run(folder, content: str, **options) -> None:
    with store.run_folder(folder, **options) as inside:
        (inside / f"{content}.txt").write_text(content)
        store.write_provenance(inside, {"run": content})


def test_an_earlier_run_is_kept_unless_it_is_to_be_replaced(tmp_path):
    a_run(tmp_path / "runs" / "mine", "first")
    for attempt in (lambda: a_run(tmp_path / "runs" / "mine", "second"), lambda: store.reserved(tmp_path / "runs" / "mine").__enter__()):
        with pytest.raises(
            FileExistsError, match=r"mine holds a run already; choose another folder \(--out\), or replace the run \(--overwrite"
        ):
            attempt()
    assert store.read_run(tmp_path / "runs" / "mine") == {"run": "first"}
    a_run(tmp_path / "runs" / "mine", "second", overwrite=True)
    assert store.read_run(tmp_path / "runs" / "mine") == {"run": "second"}
    assert sorted(path.name for path in (tmp_path / "runs").rglob("*")) == ["mine", "provenance.json", "second.txt"]


def test_files_that_are_not_a_runs_stay_where_they_are(tmp_path):
    a_run(tmp_path / "mine", "first")
    for name in ("notes.txt", "first", "figures/mine.png"):
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text("mine")
    a_run(tmp_path / "mine", "second", overwrite=True)
    assert {path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*") if path.is_file()} == {
        *("notes.txt", "first", "figures/mine.png"),
        *("second.txt", "provenance.json"),
    }
    assert store.read_run(tmp_path / "mine") == {"run": "second"}


def test_a_run_whose_list_of_files_was_changed_is_not_replaced(tmp_path):
    """The list could name files of the user."""
    a_run(tmp_path / "mine", "first")
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    file = tmp_path / "mine" / store.PROVENANCE
    file.write_text(file.read_text().replace("first.txt", "notes.txt"))
    with pytest.raises(
        ValueError, match=r"does not match its own sha256.*which files there are a run's cannot be known: choose another folder"
    ):
        a_run(tmp_path / "mine", "second", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kept", ["first.txt", "provenance.json", "directions/d.safetensors"])
def test_every_file_of_a_run_is_sealed(tmp_path, kept):
    """A byte more, a byte less, another byte, or no file."""
    with store.run_folder(tmp_path / "mine") as inside:
        (inside / "first.txt").write_text("first")
        sl.save_direction(inside / "directions" / "d.safetensors", direction())
        store.write_provenance(inside, {"run": "first"})
    file = tmp_path / "mine" / kept
    content = file.read_bytes()
    for changed in (content + b"x", content[:-2], content[:9] + bytes([content[9] ^ 1]) + content[10:] if len(content) > 9 else b"First"):
        file.write_bytes(changed)
        with pytest.raises(sl.InputError, match=rf"{kept}: .*run the script again"):
            store.read_run(tmp_path / "mine")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"{kept}: no such file|no provenance"):
        store.read_run(tmp_path / "mine")
    file.write_bytes(content)
    (tmp_path / "mine" / "notes.txt").write_text("a file of the user does not matter")
    assert store.read_run(tmp_path / "mine") == {"run": "first"}


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "thesis", tmp_path / "file"):
        for overwrite in (False, True):
            with pytest.raises(FileExistsError, match=r"exists and is not a run of ours; choose another folder \(--out\), or remove it"):
                a_run(path, "new", overwrite=overwrite)
            with pytest.raises(FileExistsError, match="exists and is not a run of ours"):
                store.reserved(path, overwrite=overwrite).__enter__()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["chapter.txt", "file", "thesis"]


def test_an_error_in_a_run_leaves_the_earlier_run_and_nothing_else(tmp_path):
    a_run(tmp_path / "mine", "first")

    def interrupted() -> None:
        with store.run_folder(tmp_path / "mine", overwrite=True) as inside:
            (inside / "half.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first.txt", "mine", "provenance.json"]


def test_holding_a_run_folder_leaves_no_trace_and_keeps_others_away(tmp_path):
    a_run(tmp_path / "old", "first")
    for path, options in ((tmp_path / "new" / "mine", {}), (tmp_path / "old", {"overwrite": True})):
        with store.reserved(path, **options) as held, ThreadPoolExecutor(1) as other:
            assert held == path
            with pytest.raises(FileExistsError, match=f"is being written by process {os.getpid()} on"):
                other.submit(a_run, path, "other", overwrite=True).result()
    assert store.read_run(tmp_path / "old") == {"run": "first"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first.txt", "old", "provenance.json"]


def test_a_folder_that_is_no_run_is_not_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no provenance\.json there; give a folder that a steerlab script wrote"):
        store.read_run(tmp_path)


def test_provenance_says_what_produced_a_run(toy_model, backend):
    about = store.provenance(toy_model(backend), {"seed": 3}, {"source": "generator"}, note="mine")
    assert (about["config"], about["task"], about["note"]) == ({"seed": 3}, {"source": "generator"}, "mine")
    assert (about["model"]["backend"], about["model"]["processing"]) == (backend, "raw")
    assert set(about["versions"]) == {"python", *store.PACKAGES}
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_a_table_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame({"layer": [0, 1], "prediction": ["", "Ä"], "correct": [True, False], "margin": [0.5, -1e-30]})
    store.write_table(tmp_path, "results", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), table)


def test_problems_are_listed_with_their_split():
    problem = sl.Problem("p", "x?", 1, (" A", " B"), {"steps": 2})
    table = store.problems_frame({"train": [problem], "test": [sl.Problem("q", "y?", 7)]})
    assert table.to_dict("records") == [
        {"split": "train", "problem_id": "p", "prompt": "x?", "target": "1", "choices": '[" A", " B"]', "meta": '{"steps": 2}'},
        {"split": "test", "problem_id": "q", "prompt": "y?", "target": "7", "choices": "null", "meta": "{}"},
    ]


# A full disk


@pytest.fixture
def small_files():
    """The system lets no file grow beyond 20 bytes: every write fails as on a full disk, with another reason."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


TABLE = pd.DataFrame({"alpha": range(100), "text": ["some words"] * 100})
PARTS = {"title": "T", "question": "Q?", "answer": "A.", "figures": [], "tables": {"table": ("", TABLE)}}
CONTEXT = sl.ContextVector(ModulatedVector(4), {"vector": torch.ones(4), "weight": torch.zeros(4), "offset": torch.tensor(0.5)}, layer=2)
CELLS = sl.model_task_grid(datasets=["arithmetic:bare"], train=8, validation=8, test=20, layers=(3,), epochs=1, controls=0)
PROBLEMS = [sl.Problem(str(i), "Tom has 3 .", 1) for i in range(4)]
WRITERS = {
    "d.safetensors": lambda path, _: sl.save_direction(path, direction()),
    "context.safetensors": lambda path, _: sl.save_context_vector(path, CONTEXT),
    "training.safetensors": lambda path, _: training.write(path, {"a": torch.ones(9)}, {}, {}),
    "report.html": lambda path, _: sl.write_report(path, title="T", question="Q?", answer="A."),
    "table.parquet": lambda path, _: store.write_table(path.parent, "table", TABLE),
    "run/table.parquet": lambda path, _: runs.save_result(path.parent, PARTS, {"model": {"name": "m"}}),
    "export/report.md": lambda path, _: sl.export_report(path.parent, formats=["md"], title="T", question="Q?", answer="A."),
    "grid/grid.json": lambda path, _: sl.run_grid(CELLS, path.parent),
    "multiverse/multiverse.json": lambda path, model: sl.multiverse(
        model, sl.load_task("arithmetic", limit=24), seed=0, specs=[sl.Specification()], n_permutations=1, folder=path.parent
    ),
    "acts.partial": lambda path, model: sl.cache_activations(model, PROBLEMS, layers=[1], path=path.with_suffix("")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_names_the_path_that_could_not_be_written_and_leaves_nothing(tmp_path, name, toy_model, backend, request):
    model = toy_model(backend)
    request.getfixturevalue("small_files")
    with pytest.raises(sl.InputError, match=rf"cannot write {tmp_path / name}\S* \(.+\); choose another place") as caught:
        WRITERS[name](tmp_path / name, model)
    assert isinstance(caught.value, OSError)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("change", [b'"epoch": 3', b'"epoch": 4'])
def test_a_training_whose_numbers_or_description_were_changed_is_not_taken_up(tmp_path, change):
    file = tmp_path / "training.safetensors"
    training.write(file, {"b": torch.arange(3.0), "a": torch.ones(2)}, {"epoch": 3}, {"lr": 1})
    tensors, about = training.read(file, {"lr": 1})
    assert (tensors["b"].tolist(), about) == ([0.0, 1.0, 2.0], {"epoch": 3})
    content = bytearray(file.read_bytes().replace(rb"\"epoch\": 3", change.replace(b'"', rb"\"")))
    content[-1] ^= change.endswith(b"3")
    file.write_bytes(content)
    with pytest.raises(sl.InputError, match="numbers and description do not match their sha256; the file was changed or damaged"):
        training.read(file, {"lr": 1})
