"""Loading a model: what is refused and in which words, and that a processed model says so."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from configurations import FAMILIES
from safetensors.torch import load_file, save_file

import steerlab as sl
from steerlab._checks import InputMemoryError
from steerlab.models import checkpoints, hooked, loading
from steerlab.models.model import _point, backend_of, describe, processing_of
from steerlab.models.passes import forward, run_to

TOKENS = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
HAS_HOOKED = hooked.HookedTransformer is not None
WEIGHT = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    """A checkpoint of its own, to damage."""
    return shutil.copytree(tiny_checkpoint("llama-grouped"), tmp_path / "mine")


def change_weights(folder, **changes):
    """Replace tensors of the checkpoint; None takes one away."""
    file = folder / "model.safetensors"
    tensors = load_file(file) | {WEIGHT: changes["weight"]}
    save_file({k: v for k, v in tensors.items() if v is not None}, file, metadata={"format": "pt"})


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(match, name, error=ValueError, **options):
    """The message of a load that must fail, in one line."""
    with pytest.raises(error, match=match) as found:
        sl.load_model(name, **options)
    assert "\n" not in str(found.value)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "hf"}, "backend='hf'; use one of auto, hooked, bridge"),
        ({"processing": "folded"}, "processing='folded'; use one of raw, processed"),
        ({"dtype": "int8"}, "dtype='int8'; use float32, bfloat16, float16 or float64"),
        ({"dtype": torch.int64}, "dtype=torch.int64; use float32"),
        ({"dtype": "floaty"}, "dtype='floaty'; use float32"),
        ({"device": "toaster"}, "device='toaster'; use cpu, cuda"),
        ({"revision": "main"}, "revision='main' is for the Hub; .* is a local directory"),
    ],
)
def test_a_bad_option_is_named_with_the_fix(options, message, folder):
    refused(message, str(folder), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_refused_before_loading(folder):
    refused("device='cuda': torch finds no CUDA device here; use cpu", str(folder), device="cuda")


def test_hooked_is_refused_where_transformer_lens_no_longer_has_it(folder, monkeypatch):
    monkeypatch.setattr(hooked, "HookedTransformer", None)
    refused("no HookedTransformer .*use backend='bridge'", str(folder), backend="hooked")
    assert backend_of(sl.load_model(str(folder))) == "bridge"


@pytest.mark.skipif(not HAS_HOOKED, reason="this TransformerLens has no HookedTransformer")
def test_auto_prefers_hooked(tiny_model):
    assert backend_of(tiny_model("gpt2", "auto")) == "hooked"


@pytest.mark.parametrize("dtype", ["float64", torch.bfloat16])
def test_weights_come_in_the_type_asked_for(dtype, backend, tiny_checkpoint):
    model = sl.load_model(str(tiny_checkpoint("llama")), backend=backend, dtype=dtype)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert forward(model, TOKENS).dtype == wanted
    assert describe(model)["dtype"] == str(wanted).removeprefix("torch.")


def test_a_path_may_be_a_path_object_and_may_begin_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert describe(sl.load_model(folder))["weights_sha256"] == describe(sl.load_model("~/mine"))["weights_sha256"]


# Directories


@pytest.mark.parametrize("name", ["/no/such/place", "./nowhere", "~/nowhere-either"])
def test_a_missing_directory_is_named(name):
    refused(f"model='{name}': no such directory", name, FileNotFoundError)


def test_a_file_is_not_a_directory(folder):
    refused("config.json': no such directory", str(folder / "config.json"), FileNotFoundError)


def test_a_directory_without_a_config_is_not_a_model(folder):
    (folder / "config.json").unlink()
    refused("holds no config.json", str(folder), FileNotFoundError)


@pytest.mark.parametrize("kept", [0, 4, 2000, 20_000])
def test_truncated_weights_are_damaged(kept, folder, backend):
    file = folder / "model.safetensors"
    assert file.stat().st_size > kept
    file.write_bytes(file.read_bytes()[:kept])
    refused(f"{folder}: the weights cannot be read .*copy it again", str(folder), backend=backend)


def test_a_missing_tensor_is_named(folder, backend):
    change_weights(folder, weight=None)
    refused(f"the weights lack 1 tensors \\({WEIGHT}", str(folder), backend=backend)


def test_a_tensor_of_another_shape_is_named(folder, backend):
    change_weights(folder, weight=torch.zeros(3, 3))
    refused(f"1 tensors have other shapes than config.json says \\({WEIGHT}", str(folder), backend=backend)


def test_weights_that_are_not_numbers_are_refused(folder, backend):
    change_weights(folder, weight=torch.full((48, 32), float("nan")))
    refused("this model's logits are NaN", str(folder), backend=backend)


def test_pickled_weights_are_not_read(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    refused("pickled weights are not read, convert them to safetensors", str(folder), FileNotFoundError)


@pytest.mark.parametrize("text", ["{}", '{"model_type": "nonesuch"}'])
def test_a_config_of_no_known_model_is_refused(text, folder):
    (folder / "config.json").write_text(text)
    refused("not a causal language model that transformers can load", str(folder))


def test_a_config_that_contradicts_itself_is_refused(folder):
    change_config(folder, hidden_size=33)
    refused("not a causal language model that transformers can load .*33", str(folder))


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text('{"model_type":')
    refused("not a valid JSON", str(folder), OSError)


def test_a_repositorys_own_code_is_not_run(folder):
    change_config(folder, model_type="custom", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    (folder / "own.py").write_text("raise SystemExit('this code was run')")
    refused("not a causal language model that transformers can load .*custom code", str(folder))


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{")
    refused(f"{folder}: the tokenizer cannot be read", str(folder))


@pytest.mark.skipif(not HAS_HOOKED, reason="this TransformerLens has no HookedTransformer")
def test_a_wrong_conversion_is_seen_in_an_untrained_model_too(tmp_path):
    """Its log-probabilities are close together, and so are the wrong ones; before, HookedTransformer took Phi-3's long rotary factors for plain ones."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(FAMILIES["phi3-longrope"]()).save_pretrained(tmp_path / "mine")
    refused("changes log-probabilities by .*use backend='bridge'", str(tmp_path / "mine"), backend="hooked")


def test_a_model_that_transformer_lens_gets_wrong_is_refused(folder, backend, monkeypatch):
    """Every load compares a few log-probabilities with the Hugging Face model."""
    monkeypatch.setattr(checkpoints.Probe, "_of", lambda self, logits, device: torch.randn(1, 8, 64))
    refused(f"backend='{backend}' cannot load 'mine' .*changes log-probabilities by", str(folder), backend=backend)


@pytest.mark.skipif(not HAS_HOOKED, reason="this TransformerLens has no HookedTransformer")
def test_a_window_longer_than_the_probe_is_still_found(folder, tiny_checkpoint, tmp_path):
    """HookedTransformer lets Qwen2 attend beyond its window; no short probe can show it."""
    other = shutil.copytree(tiny_checkpoint("qwen2-sliding"), tmp_path / "qwen")
    change_config(other, sliding_window=200, max_position_embeddings=512)
    refused("sliding windows", str(other), backend="hooked")
    assert backend_of(sl.load_model(str(other))) == "bridge"


def full(*args, **options):
    raise torch.OutOfMemoryError("no more room")


def test_a_model_for_which_there_is_no_room_is_not_called_impossible(folder, backend, monkeypatch):
    """Whoever is told so looks for another model in vain."""
    if backend == "hooked":
        monkeypatch.setattr(hooked.HookedTransformer, "load_and_process_state_dict", full)
    else:
        monkeypatch.setattr(loading.TransformerBridge, "boot_transformers", full)
    for wanted in dict.fromkeys((backend, "auto" if backend == "hooked" else backend)):
        with pytest.raises(torch.OutOfMemoryError, match="no more room"):
            sl.load_model(str(folder), backend=wanted)


def test_no_room_for_the_check_of_short_cuts_is_told_as_it_is(folder, backend, monkeypatch):
    def none_left(model):
        raise InputMemoryError("not even 9 positions at a time fit into memory")

    monkeypatch.setattr(loading, "short_cuts", none_left)
    with pytest.raises(MemoryError, match="not even 9 positions"):
        sl.load_model(str(folder), backend=backend)


# The Hub


@pytest.mark.skipif(not HAS_HOOKED, reason="this TransformerLens has no HookedTransformer")
def test_no_room_for_a_model_of_the_hub_does_not_make_it_another_backends(hub, monkeypatch):
    hub("EleutherAI/pythia-14m", "gpt_neox")
    monkeypatch.setattr(hooked.HookedTransformer, "from_pretrained_no_processing", full)
    with pytest.raises(torch.OutOfMemoryError, match="no more room"):
        sl.load_model("EleutherAI/pythia-14m")


@pytest.mark.parametrize("name", ["nobody/nothing", "not-a-model", "a/b/c", "two words"])
def test_an_unknown_name_without_network_says_so(name):
    refused(f"model='{name}': unknown, or the Hub cannot be reached .*give a Hub id", name)


@pytest.mark.skipif(not HAS_HOOKED, reason="this TransformerLens has no HookedTransformer")
def test_a_hub_id_that_hooked_does_not_know_points_to_the_bridge():
    refused("not a HookedTransformer name; use backend='bridge'", "nobody/nothing", backend="hooked")


@torch.no_grad()
def test_a_hub_id_loads_offline_from_the_cache(hub, tiny_model):
    commit = hub("someone/some-model", "llama-grouped")
    model = sl.load_model("someone/some-model")
    assert backend_of(model) == "bridge"
    torch.testing.assert_close(model(TOKENS), tiny_model("llama-grouped", "bridge")(TOKENS), rtol=0, atol=1e-4)
    pinned = sl.load_model("someone/some-model", revision=commit)
    assert describe(pinned)["revision"] == commit
    refused("unknown, or the Hub cannot be reached", "someone/some-model", revision="another-branch")


@torch.no_grad()
def test_a_hooked_transformer_name_loads_offline_from_the_cache(hub, backend, tiny_model):
    hub("EleutherAI/pythia-14m", "gpt_neox")
    model = sl.load_model("EleutherAI/pythia-14m", backend=backend)
    assert backend_of(model) == backend
    assert describe(model)["name"] == "EleutherAI/pythia-14m"
    torch.testing.assert_close(model(TOKENS), tiny_model("gpt_neox", backend)(TOKENS), rtol=0, atol=1e-4)


@pytest.mark.skipif(not HAS_HOOKED, reason="this TransformerLens has no HookedTransformer")
def test_auto_takes_the_bridge_where_hooked_cannot_load_a_model_that_it_knows(hub):
    """A GPT-2 written by a recent transformers has no n_ctx, which HookedTransformer's converter reads."""
    hub("gpt2", "gpt2")
    assert backend_of(sl.load_model("gpt2")) == "bridge"
    refused("backend='hooked' cannot load 'gpt2' .*use backend='bridge'", "gpt2", backend="hooked")


def test_damaged_weights_in_the_cache_are_told(hub):
    hub("someone/broken", "llama")
    file = next(Path(os.environ["HF_HUB_CACHE"], "models--someone--broken").rglob("model.safetensors"))
    file.write_bytes(file.read_bytes()[:2000])
    refused("someone/broken': the weights cannot be read", "someone/broken")


# Processing


@pytest.fixture(scope="module")
def processed(backend, tiny_checkpoint):
    return {f: sl.load_model(str(tiny_checkpoint(f)), backend=backend, processing="processed") for f in ("gpt2", "llama")}


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_processing_moves_the_stream_and_not_the_answers(family, backend, tiny_model, processed):
    raw, folded = tiny_model(family, backend), processed[family]
    gap = raw(TOKENS).log_softmax(-1) - folded(TOKENS).log_softmax(-1)
    assert gap.abs().max() < 1e-4
    if family == "gpt2":  # its LayerNorm centres, so the writing weights are centred; RMSNorm does not
        assert (run_to(raw, TOKENS, 2) - run_to(folded, TOKENS, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_says_how_its_weights_were_processed(family, backend, tiny_model, processed):
    assert processing_of(tiny_model(family, backend)) == "raw"
    assert processing_of(processed[family]) == "processed"
    assert describe(processed[family])["processing"] == "processed"


@pytest.mark.parametrize("alike", [True, False])
def test_a_direction_is_refused_under_other_processing(alike, backend, tiny_model, processed):
    raw, folded = tiny_model("gpt2", backend), processed["gpt2"]
    home, other = (raw, folded) if alike else (folded, raw)
    direction = sl.Direction(torch.from_numpy(np.ones(32)), 1, model=describe(home))
    with sl.steer(home, direction):
        home(TOKENS)
    with pytest.raises(ValueError, match="residual streams differ; load the model with processing="), sl.steer(other, direction):
        pass


def test_loading_leaves_the_settings_of_transformers_alone(folder):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    sl.load_model(str(folder))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@torch.no_grad()
def test_the_tanh_form_of_gelu_is_one_kernel_and_the_same_function(backend, tiny_checkpoint, tiny_model):
    """Oracle: the formula that GPT-2's own code writes out, between the hook points in front of it and behind it."""
    model = tiny_model("gpt2", backend)
    assert json.loads((tiny_checkpoint("gpt2") / "config.json").read_text())["activation_function"] == "gelu_new"
    assert not any(type(module).__name__ == "NewGELUActivation" for module in model.modules())
    seen = {}
    names = ("mlp.hook_pre", "mlp.hook_post")
    model.run_with_hooks(TOKENS, fwd_hooks=[(f"blocks.1.{name}", lambda x, hook: seen.update({hook: x.clone()})) for name in names])
    x, y = seen.values()
    written_out = 0.5 * x * (1 + torch.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(y, written_out, rtol=1e-5, atol=1e-6)


def test_a_hook_point_is_found_where_the_dictionary_says_it_is(backend, tiny_model):
    for family in ("gpt2", "gpt_neox", "llama"):
        model = tiny_model(family, backend)
        for site in ("resid_pre", "resid_mid", "resid_post"):
            name = f"blocks.1.hook_{site}"
            assert _point(model, name) is model.hook_dict.get(name)
        assert _point(model, "blocks.9.hook_resid_post") is None
