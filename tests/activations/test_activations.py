"""Cached activations: which values, where they live, and what happens when something goes wrong."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab import _files
from steerlab._progress import ProgressBar, progress_bar
from steerlab.activations import cache as activations
from steerlab.activations import files
from steerlab.models.model import d_model, hooks

LAYERS = (0, 2)


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def problems():
    """Prompts of different lengths."""
    return sl.load_task("arithmetic", n_train=8, n_validation=0, n_test=0).train


def run_with_cache(model, problem, layer: int, site: str) -> torch.Tensor:
    """Oracle: TransformerLens' own cache of one prompt alone, ``[pos d_model]``."""
    with torch.no_grad():
        _, cache = model.run_with_cache(model.to_tokens(problem.prompt))
    return cache[f"blocks.{layer}.hook_{site}"][0]


EXPECTED = {
    "last": lambda resid: resid[-1:],
    "mean": lambda resid: resid.mean(0, keepdim=True),
    "all": lambda resid: resid,
    3: lambda resid: resid[3:4],
    (0, -2): lambda resid: resid[[0, -2]],
}


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
@pytest.mark.parametrize("positions", EXPECTED, ids=str)
def test_values_are_those_of_run_with_cache(toy, problems, positions, site):
    """Oracle: model.run_with_cache on each prompt alone."""
    problems = problems[:4]
    acts = sl.cache_activations(toy, problems, layers=LAYERS, site=site, positions=positions, max_tokens=60)
    assert acts.problem_ids == tuple(problem.id for problem in problems)
    for i, problem in enumerate(problems):
        for k, layer in enumerate(LAYERS):
            expected = EXPECTED[positions](run_with_cache(toy, problem, layer, site))
            n = len(expected)
            torch.testing.assert_close(acts.values[i, k, :n], expected, rtol=0, atol=2e-5)
            assert not acts.values[i, k, n:].any()
            assert acts.mask[i].tolist() == [True] * n + [False] * (acts.values.shape[2] - n)


def test_the_order_of_layers_is_the_one_asked_for(toy, problems):
    forth, back = (sl.cache_activations(toy, problems, layers=layers) for layers in ([0, 2], [2, 0]))
    torch.testing.assert_close(forth.values, back.values.flip(1), rtol=0, atol=0)
    torch.testing.assert_close(forth.at(2), back.at(2), rtol=0, atol=0)


def test_resid_post_is_resid_pre_of_the_next_block(toy, problems):
    post = sl.cache_activations(toy, problems, layers=[1], site="resid_post")
    pre = sl.cache_activations(toy, problems, layers=[2], site="resid_pre")
    torch.testing.assert_close(post.values, pre.values, rtol=0, atol=0)


def test_what_it_knows_of_its_origin(toy, problems):
    acts = sl.cache_activations(toy, problems, layers=LAYERS, positions=[-1])
    assert (acts.layers, acts.site, acts.positions) == (LAYERS, "resid_post", (-1,))
    assert (acts.model["processing"], acts.model["d_model"]) == ("raw", d_model(toy))
    assert "layers=[0, 2]" in repr(acts)


def test_selected_problems_keep_the_order_asked_for(toy, problems):
    acts = sl.cache_activations(toy, problems, layers=LAYERS)
    ids = [problems[5].id, problems[1].id]
    chosen = acts.select(ids)
    assert chosen.problem_ids == tuple(ids)
    assert torch.equal(chosen.values, acts.values[[5, 1]])
    with pytest.raises(ValueError, match="problem 'nobody' is not among the 8 cached problems"):
        acts.select(["nobody"])


@pytest.mark.parametrize("positions", ["last", "all", (0, -1)], ids=str)
def test_streamed_to_disk_they_equal_those_in_memory(toy, problems, tmp_path, positions):
    memory = sl.cache_activations(toy, problems, layers=LAYERS, positions=positions)
    disk = sl.cache_activations(toy, problems, layers=LAYERS, positions=positions, path=tmp_path / "acts")
    for again in (disk, sl.load_activations(tmp_path / "acts")):
        assert torch.equal(again.values, memory.values)
        assert torch.equal(again.mask, memory.mask)
        for name in ("problem_ids", "layers", "site", "positions", "model"):
            assert getattr(again, name) == getattr(memory, name)


def test_values_on_disk_are_read_when_they_are_used(toy, problems, tmp_path):
    acts = sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts")
    on_disk = np.lib.format.open_memmap(tmp_path / "acts" / "values.npy", "r+")
    on_disk[3, 1] = 7.0
    on_disk.flush()
    assert (acts.values[3, 1] == 7.0).all()


def test_changing_values_in_memory_leaves_the_file_as_it_is(toy, problems, tmp_path):
    acts = sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts")
    acts.values[0] = 7.0
    assert not (sl.load_activations(tmp_path / "acts").values[0] == 7.0).all()


@pytest.mark.slow
def test_streamed_memory_does_not_grow_with_the_number_of_prompts(tmp_path):
    """The most memory that the operating system saw in one process, after few prompts and after ten times as many."""
    script = tmp_path / "script.py"
    script.write_text(
        "import resource, sys\n"
        "import torch\n"
        "import steerlab as sl\n"
        "torch.set_num_threads(1)\n"
        "model = sl.load_model('tiny-arithmetic', device='cpu')\n"
        "problems = sl.load_task('arithmetic', n_train=1000, n_validation=0, n_test=0).train\n"
        "for n in (100, 1000):\n"
        "    sl.cache_activations(model, problems[:n], layers=range(6), positions='all', max_tokens=2048, path=f'{sys.argv[1]}/{n}')\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    out = subprocess.run([sys.executable, script, tmp_path], capture_output=True, check=True, text=True, env=ENVIRONMENT).stdout
    unit = 1 if sys.platform == "darwin" else 1024
    few, many = (unit * int(line) for line in out.split())
    assert (tmp_path / "1000" / "values.npy").stat().st_size > 0.12 * few  # more than what is allowed to be added below
    assert many < 1.1 * few


def test_an_existing_folder_is_refused_and_left_alone(toy, problems, tmp_path):
    (tmp_path / "acts").mkdir()
    (tmp_path / "acts" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not an empty folder; choose another or remove it"):
        sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts")
    assert [path.name for path in tmp_path.rglob("*")] == ["acts", "thesis.txt"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def passes(model, breaks_at: int | None = None, error: type[BaseException] = RuntimeError):
    """The number of prompts in each forward pass; one of the passes may break, half-way through the model."""
    seen = []

    def fn(activation) -> None:
        seen.append(len(activation))
        if len(seen) == breaks_at:
            raise error("the lights went out")

    with hooks(model, [("blocks.1.hook_resid_post", fn)]):
        yield seen


# What a script of a test imports is what the test imports.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(sl.__file__).parents[1])}
SMALL = {"layers": LAYERS, "max_tokens": 60}  # so that the eight prompts take several passes


@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.param(RuntimeError, marks=pytest.mark.slow)])
@pytest.mark.parametrize("positions", ["last", "mean", "all", (0, -2)], ids=str)
def test_an_interrupted_cache_goes_on_where_it_stopped(toy, problems, tmp_path, positions, error):
    """Oracle: the same cache without an interruption, byte for byte."""
    options = SMALL | {"positions": positions}
    with passes(toy) as whole:
        sl.cache_activations(toy, problems, path=tmp_path / "whole", **options)
    assert len(whole) > 3
    with passes(toy, 3, error), pytest.raises(error, match="the lights went out"):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **options)
    assert not (tmp_path / "acts").exists()
    assert toy.hook_dict["blocks.2.hook_resid_post"].fwd_hooks == []
    with passes(toy) as rest:
        acts = sl.cache_activations(toy, problems, path=tmp_path / "acts", **options)
    assert rest == whole[2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acts", "whole"]
    assert contents(tmp_path / "acts") == contents(tmp_path / "whole")
    assert torch.equal(acts.values, sl.cache_activations(toy, problems, **options).values)


@pytest.mark.slow
def test_a_cache_that_was_killed_goes_on_where_it_stopped(problems, tmp_path):
    """Oracle: the same cache without an interruption, byte for byte."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys\n"
        "import torch\n"
        "import steerlab as sl\n"
        "from steerlab.models.model import hooks\n"
        "torch.set_num_threads(1)\n"
        "left = 3\n"
        "def kill(activation):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if not left:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "model = sl.load_model('tiny-arithmetic', device='cpu')\n"
        "problems = sl.load_task('arithmetic', n_train=8, n_validation=0, n_test=0).train\n"
        "with hooks(model, [('blocks.1.hook_resid_post', kill)]):\n"
        "    sl.cache_activations(model, problems, layers=(0, 2), max_tokens=60, path=sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path / "acts"], capture_output=True, check=False, text=True, env=ENVIRONMENT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["acts.partial"]
    with pytest.raises(FileNotFoundError, match=r"expected a folder that cache_activations wrote; .*acts\.partial is an unfinished one"):
        sl.load_activations(tmp_path / "acts")
    model = sl.load_model("tiny-arithmetic", device="cpu")
    with passes(model) as whole:
        sl.cache_activations(model, problems, path=tmp_path / "whole", **SMALL)
    with passes(model) as rest:
        sl.cache_activations(model, problems, path=tmp_path / "acts", **SMALL)
    assert rest == whole[2:]
    assert contents(tmp_path / "acts") == contents(tmp_path / "whole")


def interrupted(model, problems, path, **options) -> Path:
    """An unfinished cache: two passes done, of several."""
    with passes(model, 3), pytest.raises(RuntimeError, match="the lights went out"):
        sl.cache_activations(model, problems, path=path, **(SMALL | options))
    return path.with_name(f"{path.name}.partial")


def test_an_interruption_between_values_and_their_flags_is_no_harm(toy, problems, tmp_path, monkeypatch):
    """Oracle: the same cache without an interruption, byte for byte."""
    sl.cache_activations(toy, problems, path=tmp_path / "whole", **SMALL)
    writes, write = [], files._write

    def breaks(file, place, values) -> None:
        writes.append(file.name)
        if len(writes) == 12:
            raise OSError("no space left on device")
        write(file, place, values)

    monkeypatch.setattr(files, "_write", breaks)
    with pytest.raises(OSError, match="no space left"):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    done = np.fromfile(tmp_path / "acts.partial" / "done", np.uint8)
    there = np.load(tmp_path / "acts.partial" / "values.npy", mmap_mode="r")
    assert 0 < done.sum() < len(problems)
    assert all(there[i].all() for i in np.flatnonzero(done))
    monkeypatch.setattr(files, "_write", write)
    sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    assert contents(tmp_path / "acts") == contents(tmp_path / "whole")


def test_values_reach_the_disk_before_they_are_called_done(toy, problems, tmp_path, monkeypatch):
    """What was written, and what was forced to the disk, in order."""
    events, write = [], files._write

    def noted(file, place, values) -> None:
        events.append((Path(file.name).name, "written"))
        write(file, place, values)

    monkeypatch.setattr(files, "_write", noted)
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: events.append(("", "forced")))
    sl.cache_activations(toy, problems[:1], layers=LAYERS, path=tmp_path / "acts")
    values = [("values.npy", "written")] * 2 + [("sha256", "written")]
    assert events == [*values, ("", "forced"), ("", "forced"), ("done", "written"), ("", "forced")]


def test_other_batches_may_finish_an_interrupted_cache(toy, problems, tmp_path):
    """As after running out of memory."""
    folder = interrupted(toy, problems, tmp_path / "acts")
    done = np.fromfile(folder / "done", np.uint8).astype(bool)
    before = np.load(folder / "values.npy")
    acts = sl.cache_activations(toy, problems, layers=LAYERS, max_tokens=1, path=tmp_path / "acts")
    assert torch.equal(acts.values[done], torch.from_numpy(before[done]))
    torch.testing.assert_close(acts.values, sl.cache_activations(toy, problems, layers=LAYERS).values, rtol=0, atol=2e-5)


def test_the_progress_bar_begins_at_what_is_done(toy, problems, tmp_path, monkeypatch):
    folder = interrupted(toy, problems, tmp_path / "acts")
    done = int(np.fromfile(folder / "done", np.uint8).sum())
    bars = []

    def bar(**options) -> ProgressBar:
        bars.append(progress_bar(**options))
        return bars[-1]

    monkeypatch.setattr(activations, "progress_bar", bar)
    sl.cache_activations(toy, problems, path=tmp_path / "acts", progress=True, **SMALL)
    assert 0 < done < 8
    assert [(bar.initial, bar.n, bar.total) for bar in bars] == [(done, 8, 8)]


def test_an_error_before_anything_is_done_leaves_nothing_behind(toy, problems, tmp_path):
    with passes(toy, 1), pytest.raises(RuntimeError, match="the lights went out"):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "mean"}, r"something else: positions is 'last' there and 'mean' here; give another path, or delete .*acts\.partial"),
        ({"layers": [0]}, r"something else: layers is \[0, 2\] there and \[0\] here"),
        ({"site": "resid_pre"}, "something else: site is 'resid_post' there and 'resid_pre' here"),
    ],
)
def test_an_unfinished_cache_of_something_else_is_refused_and_left_alone(toy, problems, tmp_path, options, message):
    folder = interrupted(toy, problems, tmp_path / "acts")
    before = contents(folder)
    with pytest.raises(ValueError, match=message):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **(SMALL | options))
    assert contents(folder) == before
    assert not (tmp_path / "acts").exists()


def test_an_unfinished_cache_of_other_prompts_is_refused(toy, problems, tmp_path):
    interrupted(toy, problems, tmp_path / "acts")
    changed = [dataclasses.replace(problems[0], prompt=problems[0].prompt + " 3"), *problems[1:]]
    with pytest.raises(ValueError, match=r"something else: prompts_sha256 is '\w+' there and '\w+' here; give another path"):
        sl.cache_activations(toy, changed, path=tmp_path / "acts", **SMALL)
    with pytest.raises(
        ValueError, match=r"something else: problem_ids is \['story-.*… \(8 in all\) there and \['story-.*'\] here; prompts_"
    ):
        sl.cache_activations(toy, problems[:2], path=tmp_path / "acts", **SMALL)


def test_an_unfinished_cache_of_another_model_is_refused(toy, problems, tmp_path):
    interrupted(toy, problems, tmp_path / "acts")
    with pytest.raises(
        ValueError, match=r"something else: .*model d_model is 32 there and 128 here; .*model weights_sha256 is '\w+' there"
    ):
        sl.cache_activations(sl.load_model("tiny-arithmetic", device="cpu"), problems, path=tmp_path / "acts", **SMALL)


def test_an_unfinished_cache_is_refused_when_the_weights_were_changed_in_memory(toy, problems, tmp_path):
    interrupted(toy, problems, tmp_path / "acts")
    weight = next(iter(toy.parameters()))
    before = weight.detach().clone()
    try:
        weight.data[0, 0] += 1e-3
        with pytest.raises(ValueError, match=r"something else: model fingerprint as .*model weights_sha256 is '\w+' there and None here"):
            sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    finally:
        weight.data.copy_(before)
    sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)


def other_layers(path: Path) -> None:
    path.write_text(path.read_text().replace('"site": "resid_post"', '"site": "resid_mid"'))


def flipped(path: Path) -> None:
    """One bit of the first value other than zero."""
    content = bytearray(path.read_bytes())
    content[next(i for i in range(128, len(content)) if content[i])] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("activations.json", lambda path: path.unlink(), "is no unfinished cache that can be taken up: .*no such file"),
        ("activations.json", lambda path: path.write_text("{"), "is no unfinished cache that can be taken up: .*Expecting property name"),
        ("activations.json", lambda path: path.write_bytes(b"\xff"), "is no unfinished cache that can be taken up: .*can't decode"),
        ("activations.json", lambda path: path.write_text("[]"), r"is no unfinished cache .*activations\.json: holds a list, not a table"),
        ("activations.json", other_layers, r"activations\.json: does not match its own sha256"),
        ("values.npy", flipped, r"holds a damaged unfinished cache \(values\.npy is not as written at problem \d"),
        ("sha256", lambda path: path.unlink(), "holds a damaged unfinished cache .*No such file"),
        ("sha256", lambda path: path.write_bytes(bytes(9)), r"holds a damaged unfinished cache \(sha256 is not as"),
        ("done", lambda path: path.unlink(), "holds a damaged unfinished cache .*No such file"),
        ("done", lambda path: path.write_bytes(b"\1"), r"holds a damaged unfinished cache \(done is not as activations\.json says"),
        ("done", lambda path: path.write_bytes(b"11111111"), r"holds a damaged unfinished cache \(done is not as"),
        ("values.npy", lambda path: path.unlink(), "holds a damaged unfinished cache .*No such file"),
        ("values.npy", lambda path: path.write_bytes(path.read_bytes()[:-9]), "holds a damaged unfinished cache .*file size"),
        ("values.npy", lambda path: np.save(path, np.zeros((8, 2, 1, 32))), r"holds a damaged unfinished cache \(values\.npy is not as"),
        ("mask.npy", lambda path: np.save(path, np.zeros((8, 1), bool)), r"holds a damaged unfinished cache \(mask\.npy is not as"),
        ("mask.npy", lambda path: path.write_bytes(b""), "holds a damaged unfinished cache .*No data left in file"),
    ],
)
def test_a_damaged_unfinished_cache_is_named_with_what_to_do(toy, problems, tmp_path, file, damage, message):
    folder = interrupted(toy, problems, tmp_path / "acts")
    damage(folder / file)
    before = contents(folder)
    with pytest.raises(ValueError, match=rf"{message}.*; give another path, or delete .*acts\.partial to start anew"):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    assert contents(folder) == before


def test_an_unfinished_cache_is_not_loaded(toy, problems, tmp_path):
    folder = interrupted(toy, problems, tmp_path / "acts")
    with pytest.raises(ValueError, match=r"only \d of 8 problems are done; call cache_activations again with the same arguments"):
        sl.load_activations(folder)


def test_a_place_that_was_taken_meanwhile_is_left_alone(toy, problems, tmp_path):
    def take(activation) -> None:
        (tmp_path / "acts").mkdir(exist_ok=True)
        (tmp_path / "acts" / "thesis.txt").write_text("mine")

    with hooks(toy, [("blocks.1.hook_resid_post", take)]), pytest.raises(FileExistsError, match="exists and is not an empty folder"):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    assert contents(tmp_path / "acts") == {"thesis.txt": b"mine"}
    (tmp_path / "acts" / "thesis.txt").unlink()
    with passes(toy) as rest:
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **SMALL)
    assert rest == []


def test_a_folder_of_something_else_is_not_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no activations\.json there; expected a folder that cache_activations wrote"):
        sl.load_activations(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [3]}, "layer=3: this model has 3 layers; use 0 to 2"),
        ({"layers": [-1]}, "layer=-1: this model has 3 layers"),
        ({"layers": []}, r"layers=\[\]; give at least one layer, each once"),
        ({"layers": [1, 1]}, r"layers=\[1, 1\]; give at least one layer, each once"),
        ({"layers": [0], "site": "mlp_out"}, "site='mlp_out'; use one of resid_pre, resid_mid, resid_post"),
        ({"layers": [0], "positions": "first"}, "positions='first'; use last, mean, all or a list of indices"),
        ({"layers": [0], "positions": []}, r"positions=\[\]; give a whole number or several"),
        ({"layers": [0], "positions": [0, 60]}, r"position 60: the prompt of problem 'story-.*' has \d+ tokens; use -\d+ to \d+"),
    ],
)
def test_a_layer_site_or_position_that_does_not_exist_is_named(toy, problems, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        sl.cache_activations(toy, problems, path=tmp_path / "acts", **options)
    assert list(tmp_path.iterdir()) == []


def test_no_problems_and_repeated_ids_are_refused(toy, problems):
    with pytest.raises(ValueError, match="no problems given; there is nothing to cache"):
        sl.cache_activations(toy, [], layers=[0])
    with pytest.raises(ValueError, match="appears 2 times; ids must be unique"):
        sl.cache_activations(toy, [problems[0], problems[0]], layers=[0])


def test_a_layer_that_was_not_cached_is_named(toy, problems):
    with pytest.raises(ValueError, match="layer=1: cached were layers 0, 2"):
        sl.cache_activations(toy, problems, layers=LAYERS).at(1)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("values.npy", flipped, r"values\.npy: problem 0 does not match its sha256; the file was changed or damaged; delete the folder"),
        (
            "values.npy",
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            r"values\.npy: cannot be read \(.*; delete the folder, and cache",
        ),
        (
            "values.npy",
            lambda path: np.save(path, np.zeros((8, 2, 1, 32))),
            r"values\.npy: float64 of shape .*, not as activations\.json says",
        ),
        ("mask.npy", lambda path: np.save(path, ~np.load(path)), r"mask\.npy: does not match its sha256"),
        ("mask.npy", lambda path: path.unlink(), r"mask\.npy: no such file"),
        ("sha256", lambda path: path.write_bytes(path.read_bytes()[::-1]), r"sha256: does not match its sha256"),
        ("activations.json", other_layers, r"activations\.json: does not match its own sha256"),
        (
            "activations.json",
            lambda path: path.write_text("{}"),
            r"activations\.json: format None; this version reads steerlab-activations-1",
        ),
        ("activations.json", lambda path: path.write_text("{"), r"activations\.json: not JSON"),
    ],
)
def test_a_cache_that_was_changed_is_not_opened(toy, problems, tmp_path, file, damage, message):
    sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts")
    sl.load_activations(tmp_path / "acts")
    damage(tmp_path / "acts" / file)
    with pytest.raises(sl.InputError, match=message):
        sl.load_activations(tmp_path / "acts")


def test_a_large_cache_can_be_opened_without_reading_it(toy, problems, tmp_path):
    sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts")
    flipped(tmp_path / "acts" / "values.npy")
    sl.load_activations(tmp_path / "acts", verify=False)


def test_a_cache_that_another_process_writes_is_left_alone(toy, problems, tmp_path):
    with _files.locked(tmp_path / "acts"), ThreadPoolExecutor(1) as other:
        asked = other.submit(sl.cache_activations, toy, problems, layers=LAYERS, path=tmp_path / "acts")
        with pytest.raises(FileExistsError, match=rf"acts is being written by process {os.getpid()}"):
            asked.result()
    assert list(tmp_path.iterdir()) == []
