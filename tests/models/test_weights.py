"""Which weights are these: one notion, whatever the backend and dtype, that notices changed files and changed numbers."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants

import steerlab as sl
from steerlab.directions.direction import check_direction
from steerlab.models import hooked, weights
from steerlab.models.model import describe, in_precision
from steerlab.models.weights import another_model, same_weights

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture
def folder(tmp_path, tiny_checkpoint):
    """A checkpoint of one's own, that may be changed."""
    return Path(shutil.copytree(tiny_checkpoint("llama"), tmp_path / "mine"))


def rewrite(folder: Path, seed: int) -> None:
    """Other weights of the same shapes, and so files of the same size."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    model.save_pretrained(folder)


def load(folder: Path, backend: str, **options: object) -> object:
    return sl.load_model(folder, backend=backend, device="cpu", **options)


def test_the_digest_of_files_is_that_of_their_bytes(folder, backend):
    """Oracle: sha256 of the file, as sha256sum gives it."""
    assert describe(load(folder, backend))["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_file_that_changed_is_digested_anew(folder, backend):
    first = load(folder, backend)
    before = describe(first)
    rewrite(folder, seed=7)
    second = describe(load(folder, backend))
    assert second["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != before["weights_sha256"]
    assert same_weights(before, second) is False
    now = describe(first)  # its file is gone, and its numbers are still what they were
    assert now["weights_sha256"] is None
    assert same_weights(before, now) is True
    assert same_weights(now, second) is False


def test_a_file_that_changes_before_the_first_look_is_not_taken_for_what_was_loaded(folder, backend):
    model = load(folder, backend)
    rewrite(folder, seed=7)
    assert describe(model)["weights_sha256"] is None
    assert same_weights(describe(model), describe(load(folder, backend))) is False


@pytest.mark.parametrize("past_the_counter", [False, True])
def test_weights_that_are_changed_in_memory_are_other_weights(folder, backend, past_the_counter):
    model = load(folder, backend)
    before = describe(model)
    weight = model.blocks[1].mlp.W_out if backend == "hooked" else next(p for n, p in model.named_parameters() if "down_proj" in n)
    old = weight.detach().clone()
    with torch.no_grad():
        (weight.data if past_the_counter else weight).add_(1e-3)
    changed = describe(model)
    assert changed["weights_sha256"] is None
    assert same_weights(before, changed) is False
    with torch.no_grad():
        weight.copy_(old)
    assert describe(model) == before


def test_one_changed_number_is_noticed(folder, backend):
    model = load(folder, backend)
    before = describe(model)
    with torch.no_grad():
        model.W_U[3, 5] += 1e-4
    assert same_weights(before, describe(model)) is False


def test_one_checkpoint_is_one_model_in_every_dtype_and_on_every_backend(folder, backends):
    found = [describe(load(folder, backend, dtype=dtype)) for backend in backends for dtype in DTYPES]
    assert all(same_weights(one, other) for one in found for other in found)
    rewrite(folder, seed=7)
    others = [describe(load(folder, backend, dtype=dtype)) for backend, dtype in zip(backends, DTYPES, strict=False)]
    assert not any(same_weights(one, other) for one in found for other in others)


def test_a_conversion_in_memory_changes_no_weights(folder, backend):
    model = load(folder, backend)
    before = describe(model)
    with in_precision(model, "bfloat16"):
        assert describe(model)["weights_sha256"] == before["weights_sha256"]
    assert describe(model) == before
    assert same_weights(before, describe(model.to(torch.float64)))


def test_a_model_made_by_hand_is_known_by_its_numbers(folder):
    """A HookedTransformer with the weights of a loaded one, in float32 and in bfloat16, and with others."""
    if hooked.HookedTransformer is None:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    ours = load(folder, "hooked")
    with hooked.no_deprecation():
        made = hooked.HookedTransformer(ours.cfg)
    made.load_state_dict(ours.state_dict())
    about = describe(made)
    assert about["weights_sha256"] is None
    assert same_weights(about, describe(ours)) is True
    assert same_weights(describe(made.to(torch.bfloat16)), describe(ours)) is True
    with torch.no_grad():
        made.W_E.add_(0.05)
    assert same_weights(describe(made), describe(ours)) is False


def test_a_model_of_the_hub_has_the_digest_of_its_files(hub, backend, tmp_path):
    """Oracle: the same folder, loaded as a directory."""
    commit = hub("someone/weights", "llama")
    snapshot = Path(constants.HF_HUB_CACHE) / "models--someone--weights" / "snapshots" / commit
    named = describe(sl.load_model("someone/weights", backend="bridge", device="cpu"))
    assert named["weights_sha256"] == describe(load(snapshot, backend))["weights_sha256"]


def test_digests_of_different_kinds_are_never_compared():
    files, numbers = {"weights_sha256": "a", "name": "m"}, {"fingerprint": {"float32": "b"}, "name": "m"}
    assert same_weights(files, numbers) is None
    assert another_model(files, numbers) is None
    assert another_model(files, {**numbers, "name": "n"}) == "'m' and 'n'"
    assert another_model(files, {**numbers, "n_layers": 3}) is None
    assert another_model({**files, "n_layers": 2}, {**numbers, "n_layers": 3}) == "'m' and 'm', of different numbers of layers: 2 and 3"


def test_the_whole_model_is_looked_at_once_not_at_each_question(folder, backend, monkeypatch):
    model = load(folder, backend)
    taken = []
    whole = weights._taken
    monkeypatch.setattr(weights, "_taken", lambda tensors: taken.append(1) or whole(tensors))
    direction = sl.Direction(torch.ones(32), 1, model=describe(model))
    for _ in range(3):
        check_direction(model, direction)
    assert taken == []  # it was, when the model was loaded
