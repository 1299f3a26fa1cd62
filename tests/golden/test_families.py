"""Every architecture: the model we load is the model that was published, and steering it is adding to a block's output.

Oracle: the plain Hugging Face model of the same directory, eager attention, with plain torch forward hooks.
"""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

import steerlab as sl
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.model import backend_of
from steerlab.models.passes import run_to
from steerlab.models.shortcuts import next_logits, read_out, run_from

HOOKED = (
    "gpt2",
    "gpt2-untied",
    "gpt_neox",
    "gpt_neox-sequential",
    "gpt_neox-rotary-half",
    "llama",
    "llama-grouped",
    "llama-theta",
    "llama-tied",
    "mistral",
    "mistral-sliding",
    "qwen2",
    "phi",
    "phi-2",
)
BRIDGE_ONLY = ("gpt2-wide", "qwen2-sliding", "stablelm", "stablelm-rotary-half", "gemma", "gemma2")
TOKENS = torch.randint(0, 64, (2, 13), generator=torch.Generator().manual_seed(3))
CLOSE = {"rtol": 0, "atol": 1e-4}


# What short cuts and converters tell apart. The rest is compared among the slow tests.
QUICK = ("gpt2", "gpt_neox", "gpt_neox-sequential", "llama-grouped", "mistral-sliding", "qwen2", "phi-2", "gemma2")
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in HOOKED + BRIDGE_ONLY]


@pytest.fixture(scope="module", params=EACH)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def published(family, tiny_checkpoint):
    """The oracle."""
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint(family), attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def loaded(family, backend, tiny_model):
    return tiny_model(family, "auto" if family in BRIDGE_ONLY else backend)


def blocks_of(published):
    return next(m for m in published.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)


def steered_by_hand(published, layer, vector):
    """Logits of the Hugging Face model with a vector added to what one of its blocks returns."""

    def add(module, inputs, output):
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

    handle = blocks_of(published)[layer].register_forward_hook(add)
    try:
        return published(TOKENS).logits
    finally:
        handle.remove()


@torch.no_grad()
def test_logits_are_those_of_the_published_model(loaded, published):
    torch.testing.assert_close(loaded(TOKENS), published(TOKENS).logits, **CLOSE)


@torch.no_grad()
def test_steering_a_block_is_adding_to_its_output(loaded, published):
    for layer in range(3):
        vector = torch.randn(32, generator=torch.Generator().manual_seed(layer))
        by_hand = steered_by_hand(published, layer, 1.5 * vector)
        with sl.steer(loaded, sl.Direction(vector, layer), alpha=1.5):
            torch.testing.assert_close(loaded(TOKENS), by_hand, **CLOSE)
        assert (by_hand - published(TOKENS).logits).abs().max() > 0.01


@torch.no_grad()
def test_every_block_can_be_resumed_from(loaded):
    """Also where a block's place decides its mask (Gemma 2, Qwen2 with windows)."""
    full = loaded(TOKENS)
    for layer in range(4):
        final = run_from(loaded, run_to(loaded, TOKENS, layer), layer, TOKENS)
        torch.testing.assert_close(read_out(loaded, final.flatten(0, 1)).view_as(full), full, **CLOSE)


@torch.no_grad()
def test_cached_keys_and_values_give_the_logits_of_the_whole_run(loaded):
    full, cache = loaded(TOKENS), KeyValueCache(loaded, len(TOKENS))
    torch.testing.assert_close(next_logits(loaded, cache, TOKENS[:, :5]), full[:, 4], **CLOSE)
    for position in range(5, TOKENS.shape[1]):
        torch.testing.assert_close(next_logits(loaded, cache, TOKENS[:, position : position + 1]), full[:, position], **CLOSE)


def test_each_backend_loads_what_it_is_said_to(family, backend, tiny_checkpoint, tiny_model):
    if backend == "bridge" or family in HOOKED:
        assert backend_of(tiny_model(family, backend)) == backend
    else:
        with pytest.raises(ValueError, match=f"backend='hooked' cannot load '{family}' .*use backend='bridge'"):
            sl.load_model(str(tiny_checkpoint(family)), backend="hooked")


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "word"),
    [
        pytest.param(family, word, marks=[] if k % 3 == i else pytest.mark.slow)
        for i, family in enumerate(["gpt_neox-sequential", "llama-grouped", "qwen2"])
        for k, word in enumerate(["llama", "gemma", "bert", "t5"])
    ],
    indirect=["family"],
)
def test_words_in_a_path_say_nothing_about_the_model(family, word, backend, tiny_checkpoint, published, tmp_path):
    """TransformerLens chooses converters by words in a path; here the config decides."""
    folder = shutil.copytree(tiny_checkpoint(family), tmp_path / f"a-{word}-model" / word)
    model = sl.load_model(str(folder), backend=backend)
    torch.testing.assert_close(model(TOKENS), published(TOKENS).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox-sequential", "llama-grouped", "mistral", "qwen2"], indirect=True)
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_both_backends_steer_the_same_stream_at_every_site(family, site, backends, tiny_model):
    """Oracle: HookedTransformer, whose resid_mid hook replaces what the MLP reads and what is added to its output."""
    if len(backends) < 2:
        pytest.skip("this TransformerLens has no HookedTransformer")
    direction = sl.Direction(torch.ones(32), 1, site)
    found = []
    for backend in backends:
        with sl.steer(tiny_model(family, backend), direction, alpha=1.5):
            found.append(tiny_model(family, backend)(TOKENS))
    torch.testing.assert_close(*found, **CLOSE)
