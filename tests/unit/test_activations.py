"""Cached activations: which values, where they live, and what happens when something goes wrong."""

import tracemalloc

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab import activations
from steerlab.models import d_model
from steerlab.tasks import Problem

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
    acts = sl.cache_activations(toy, problems, layers=LAYERS, site=site, positions=positions, max_tokens=120)
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


def peak_of_memory(run) -> int:
    """The most bytes that Python and NumPy held at once; memory-mapped files are not among them."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_streamed_memory_does_not_grow_with_the_number_of_prompts(toy, tmp_path):
    few, many = ([Problem(f"p{i}", "Tom has 3 apples. " * 8, 0, (" A", " B")) for i in range(n)] for n in (40, 200))
    peaks = {}
    for name, asked in (("warm", few), ("few", few), ("many", many)):
        at = tmp_path / name
        peaks[name] = peak_of_memory(
            lambda asked=asked, at=at: sl.cache_activations(toy, asked, layers=[0, 1, 2], positions="all", path=at, max_tokens=512)
        )
    values = sl.load_activations(tmp_path / "many").values.numpy().nbytes - sl.load_activations(tmp_path / "few").values.numpy().nbytes
    assert peaks["many"] - peaks["few"] < values / 4


def test_an_existing_folder_is_refused_and_left_alone(toy, problems, tmp_path):
    (tmp_path / "acts").mkdir()
    (tmp_path / "acts" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not an empty folder; choose another or remove it"):
        sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts")
    assert [path.name for path in tmp_path.rglob("*")] == ["acts", "thesis.txt"]


def test_an_error_half_way_leaves_nothing_behind(toy, problems, tmp_path, monkeypatch):
    runs = []

    def breaks(*args):
        runs.append(args)
        if len(runs) == 2:
            raise RuntimeError("the lights went out")
        return residuals(*args)

    residuals = activations.residuals
    monkeypatch.setattr(activations, "residuals", breaks)
    with pytest.raises(RuntimeError, match="the lights went out"):
        sl.cache_activations(toy, problems, layers=LAYERS, path=tmp_path / "acts", max_tokens=60)
    assert list(tmp_path.iterdir()) == []
    assert toy.hook_dict["blocks.2.hook_resid_post"].fwd_hooks == []


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
