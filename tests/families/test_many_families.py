"""What is computed about a model is what plain Hugging Face gives, in 80 architectures, whichever short cuts each of them allows.

Oracle: the Hugging Face model of the same directory with its own tokenizer, one text at a time, eager attention, no cache, plain torch hooks.
"""

import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers
from configurations import FAMILIES
from transformers import AutoModelForCausalLM

import steerlab as sl
from steerlab.models.shortcuts import short_cuts
from steerlab.tasks.scorers import text

pytestmark = pytest.mark.families

OWN_ATTENTION = ("mamba", "mamba2", "falcon_mamba", "rwkv")  # there is no eager attention to ask for
HOOKED = (
    "gpt2",
    "gpt2-untied",
    "gpt2-scaled-by-layer",
    "gpt2-relu",
    "gpt_neox",
    "gpt_neox-sequential",
    "gpt_neox-rotary-half",
    "bloom",
    "opt",
    "llama",
    "llama-grouped",
    "llama-theta",
    "llama-tied",
    "llama-rope-llama3",
    "llama-rope-dynamic",
    "mistral",
    "mistral-sliding",
    "mixtral",
    "qwen2",
    "qwen3",
    "phi",
    "phi-2",
    "phi3",
    "olmo3",
    "olmoe",
    "apertus",
    "gpt_oss",
)
REFUSED = {  # what TransformerLens 3.9 computes otherwise, or cannot run, or has no hook point in
    "openai-gpt": "blocks.0.hook_resid_post never fires",
    "falcon-new": "split_with_sizes",
    "cohere": "changes log-probabilities",
    "cohere2": "changes log-probabilities",
    "hunyuan_v1_dense": "changes log-probabilities",
    "qwen3_next": "cannot be run at all",
}
OFF = {  # short cuts that do not give these models' own results; every other family has all of them
    "bloom": {"narrow"},
    "bloom-post-residual": {"narrow"},
    "falcon-alibi": {"pieces", "aligned"},
    "falcon-alibi-parallel": {"pieces", "aligned"},
    "mpt": {"narrow", "pieces", "aligned"},
    "opt-350m": {"resid_mid", "read_out"},
    "phi3-longrope": {"padded", "pieces", "aligned"},
    "granite": {"read_out"},
    "granitemoe": {"read_out"},
    "gpt_oss": {"narrow"},
    "mamba": {"pieces", "aligned"},
    "mamba2": {"pieces", "aligned"},
    "falcon_mamba": {"pieces", "aligned"},
    "recurrent_gemma": {"pieces", "aligned"},
    "rwkv": {"resume", "pieces", "aligned"},
    "jamba": {"pieces", "aligned"},
    "falcon_h1": {"pieces", "aligned"},
    "lfm2": {"pieces", "aligned"},
    "bert": {"read_out"},
    "modernbert-decoder": {"read_out"},
    "bamba": {"resume", "pieces", "aligned"},
    "zamba2": {"pieces", "aligned"},
    "llama4_text": {"narrow"},
}
CASES = [(family, "bridge") for family in FAMILIES if family not in REFUSED] + [(family, "hooked") for family in HOOKED]
CLOSE = 1e-4
# Prompts of several lengths that begin alike, also beyond 16 tokens, where some models turn their positions otherwise.
START = " ".join(f"w{(7 * i) % 60}" for i in range(9))
PROMPTS = (START, f"{START} w3", f"{START} w3 w8 w21", "w5 w6", *(" ".join(f"w{(11 * i) % 60}" for i in range(n)) for n in (15, 18)))
CHOICES = (" w7", " w9 w3", " w9 w4 w1")


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def published(case, worded_checkpoint):
    family, _ = case
    eager = {} if family in OWN_ATTENTION else {"attn_implementation": "eager"}
    return AutoModelForCausalLM.from_pretrained(worded_checkpoint(family), **eager).eval()


@pytest.fixture(scope="module")
def tokenizer(case, loaded, worded_checkpoint):
    """The published tokenizer. Whether <bos> stands first is TransformerLens' rule for the model, which differs from the tokenizer's in some.

    Without a tokenizer words are token ids, and so are problems.
    """
    if loaded.tokenizer is None:
        return SimpleNamespace(
            encode=lambda text: [4 + int(word[1:]) for word in text.split()],
            decode=lambda ids, **_: " ".join(str(token) for token in ids if token != 2),
            given=lambda text: tuple(4 + int(word[1:]) for word in text.split()),
        )
    own = transformers.AutoTokenizer.from_pretrained(worded_checkpoint(case[0]))

    def encode(text):
        return [own.bos_token_id] * loaded.cfg.default_prepend_bos + own(text, add_special_tokens=False).input_ids

    return SimpleNamespace(encode=encode, decode=own.decode, given=lambda text: text)


@pytest.fixture(scope="module")
def problems(tokenizer):
    given = tokenizer.given
    return [sl.Problem(f"p{i}", given(prompt), 0, tuple(map(given, CHOICES))) for i, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def loaded(case, worded_checkpoint):
    return load(worded_checkpoint(case[0]), case[1])


def load(folder, backend):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is run without some short cuts")
        return sl.load_model(str(folder), backend=backend, device="cpu")


def blocks_of(published):
    return next(m for m in published.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)


class Added:
    """The published model with a vector added to what one of its blocks returns, at some positions."""

    def __init__(self, published, layer, vector, first=0, last=None):
        self._block, self._vector, self._where = blocks_of(published)[layer], vector, slice(first, last)

    def __enter__(self):
        def add(module, inputs, output):
            whole = output[0] if isinstance(output, tuple) else output
            moved = whole.clone()
            moved[:, self._where] += self._vector
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        self._handle = self._block.register_forward_hook(add)

    def __exit__(self, *error):
        self._handle.remove()


def log_likelihood(published, tokenizer, prompt, choice):
    """Log-likelihood of a continuation, from one run of the text without its last token (as lm-evaluation-harness feeds it), with its graph."""
    begin, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + choice)
    logits = published(torch.tensor([whole[:-1]]), use_cache=False).logits[0].log_softmax(-1)
    return sum(logits[i - 1, whole[i]] for i in range(len(begin), len(whole)))


@torch.no_grad()
def likelihood(published, tokenizer, prompt, choice):
    return float(log_likelihood(published, tokenizer, prompt, choice))


def margin(published, tokenizer, prompt):
    scores = [likelihood(published, tokenizer, prompt, choice) for choice in CHOICES]
    return scores[0] - max(scores[1:])


@torch.no_grad()
def continued(published, tokenizer, prompt, n):
    """Greedy, the whole text again for each token."""
    ids = tokenizer.encode(prompt)
    made = []
    for _ in range(n):
        made.append(int(published(torch.tensor([ids + made]), use_cache=False).logits[0, -1].argmax()))
        if made[-1] == 2:
            break
    return tokenizer.decode(made, skip_special_tokens=True).strip()


def vector(layer):
    return torch.randn(32, generator=torch.Generator().manual_seed(layer))


def test_the_short_cuts_in_use_are_those_that_agree(case, loaded):
    """A change here is a change of speed at best: the tests below say whether results are right."""
    family, backend = case
    expected = OFF.get(family, set()) if backend == "bridge" else set()
    assert set(short_cuts(loaded).off) == expected


@torch.no_grad()
def test_logits(loaded, published, tokenizer):
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer.encode(prompt)])
        torch.testing.assert_close(loaded(ids), published(ids).logits, rtol=0, atol=CLOSE)


def test_likelihoods_of_many_problems_together_are_those_of_each_alone(loaded, published, tokenizer, problems):
    found = sl.evaluate(loaded, problems, scorer="continuation").frame
    expected = [margin(published, tokenizer, prompt) for prompt in PROMPTS]
    assert found["margin"].tolist() == pytest.approx(expected, abs=CLOSE)
    assert found["nll"].tolist() == pytest.approx([-likelihood(published, tokenizer, p, CHOICES[0]) for p in PROMPTS], abs=CLOSE)


def test_steering_everywhere_is_adding_to_a_blocks_output(loaded, published, tokenizer, problems):
    directions = {layer: sl.Direction(vector(layer), layer) for layer in range(3)}
    swept = sl.sweep(loaded, problems, directions, alphas=[-1.0, 0.0, 1.5], scorer="continuation").frame
    for (layer, alpha), mine in swept.groupby(["layer", "alpha"]):
        with Added(published, layer, alpha * vector(layer)):
            expected = [margin(published, tokenizer, prompt) for prompt in PROMPTS]
        assert mine["margin"].tolist() == pytest.approx(expected, abs=CLOSE), (layer, alpha)


def test_steering_the_last_token_is_adding_there(loaded, published, tokenizer, problems):
    swept = sl.sweep(loaded, problems, sl.Direction(vector(1), 1), alphas=[2.0], positions="last", scorer="continuation").frame
    for prompt, found in zip(PROMPTS, swept["margin"], strict=True):
        end = len(tokenizer.encode(prompt))
        with Added(published, 1, 2.0 * vector(1), end - 1, end):
            assert found == pytest.approx(margin(published, tokenizer, prompt), abs=CLOSE)


def test_what_enters_a_block_is_what_leaves_the_one_before(loaded, problems):
    """Steering resid_pre of block l + 1 is steering resid_post of block l, which the tests above compare with the published model."""
    found = [
        sl.sweep(loaded, problems, sl.Direction(vector(0), layer, site), alphas=[1.5], scorer="continuation").frame["margin"].tolist()
        for layer, site in ((0, "resid_post"), (1, "resid_pre"))
    ]
    assert found[0] == pytest.approx(found[1], abs=CLOSE)


def test_generated_texts(loaded, published, tokenizer):
    asked = [sl.Problem(f"p{i}", tokenizer.given(prompt), tokenizer.given("w1")) for i, prompt in enumerate(PROMPTS)]
    unsteered = [continued(published, tokenizer, prompt, 6) for prompt in PROMPTS]
    assert sl.evaluate(loaded, asked, scorer=text(6)).frame["prediction"].tolist() == unsteered
    swept = sl.sweep(loaded, asked, sl.Direction(vector(1), 1), alphas=[0.0, 2.0], scorer=text(6)).frame
    with Added(published, 1, 2.0 * vector(1)):
        steered = [continued(published, tokenizer, prompt, 6) for prompt in PROMPTS]
    assert swept.loc[swept["alpha"] == 0, "prediction"].tolist() == unsteered
    assert swept.loc[swept["alpha"] == 2, "prediction"].tolist() == steered


def test_the_first_order_effect_is_the_derivative_of_the_margin(loaded, published, tokenizer, problems):
    found = sl.preview(loaded, problems, [sl.Direction(vector(1), 1)], scorer="continuation").slopes
    for prompt, slope in zip(PROMPTS, found["slope"], strict=True):
        alpha = torch.zeros((), requires_grad=True)
        with Added(published, 1, alpha * vector(1)):
            scores = [log_likelihood(published, tokenizer, prompt, choice) for choice in CHOICES]
        (scores[0] - max(scores[1:])).backward()
        assert slope == pytest.approx(float(alpha.grad), abs=1e-3 * max(1.0, abs(slope)))


def test_a_learned_vector_is_that_of_a_plain_training_loop(loaded, published, tokenizer, problems):
    found = sl.learn_vector(loaded, problems, layer=1, epochs=2, batch_size=len(PROMPTS), lr=0.05, seed=3)
    learned = torch.nn.Parameter(torch.zeros(32))
    optimizer = torch.optim.Adam([learned], lr=0.05)
    for parameter in published.parameters():
        parameter.requires_grad = False
    for _ in range(2):
        optimizer.zero_grad()
        for prompt in PROMPTS:
            begin, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + CHOICES[0])
            with Added(published, 1, learned):
                logits = published(torch.tensor([whole[:-1]]), use_cache=False).logits[0, len(begin) - 1 :]
            torch.nn.functional.cross_entropy(logits, torch.tensor(whole[len(begin) :]), reduction="sum").backward()
        optimizer.step()
    assert float(torch.nn.functional.cosine_similarity(found.vector, learned.detach(), dim=0)) > 0.999
    assert float(found.norm) == pytest.approx(float(learned.detach().norm()), rel=1e-2)


def test_activations_are_what_the_blocks_return(loaded, published, tokenizer, problems):
    acts = sl.cache_activations(loaded, problems, layers=[0, 1, 2], positions="last")
    kept = {}
    handles = [
        block.register_forward_hook(lambda m, a, out, k=k: kept.update({k: out[0] if isinstance(out, tuple) else out}))
        for k, block in enumerate(blocks_of(published))
    ]
    try:
        for i, prompt in enumerate(PROMPTS):
            with torch.no_grad():
                published(torch.tensor([tokenizer.encode(prompt)]), use_cache=False)
            for layer in range(3):
                torch.testing.assert_close(acts.at(layer)[i, 0], kept[layer][0, -1], rtol=0, atol=CLOSE)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_cannot_be_run_rightly_is_refused_with_the_reason(family, worded_checkpoint):
    with pytest.raises(sl.InputError, match=f"cannot load '{family}'.*{REFUSED[family]}.*use another model"):
        load(worded_checkpoint(family), "auto")
