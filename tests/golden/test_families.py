"""Every architecture: the model we load is the model that was published, and steering it is adding to a block's output.

Oracle: the plain Hugging Face model of the same directory, eager attention, with plain torch forward hooks.
"""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

import steerlab as sl

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
BRIDGE_ONLY = ("stablelm", "stablelm-rotary-half", "gemma")
TOKENS = torch.randint(0, 64, (2, 13), generator=torch.Generator().manual_seed(3))
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module", params=HOOKED + BRIDGE_ONLY)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def published(family, tiny_checkpoint):
    """The oracle."""
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint(family), attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def loaded(family, backend, tiny_model):
    if backend == "hooked" and family in BRIDGE_ONLY:
        pytest.skip(f"HookedTransformer has no {family}")
    return tiny_model(family, backend)


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
