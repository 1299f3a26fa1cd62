"""Every short cut is compared with the model's own forward pass before it is used, and left out where it disagrees.

Oracle of the numbers: plain Hugging Face on the text's own tokens, one problem at a time, eager attention, no cache.
"""

import math
import shutil
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import steerlab as sl
from steerlab.models import shortcuts
from steerlab.models.backends import HookedTransformer
from steerlab.models.model import describe, hook_name
from steerlab.models.passes import forward
from steerlab.models.shortcuts import short_cuts
from steerlab.tasks.scorers import text

CHOICES = (" w7", " w9 w3")
PROMPTS = ("w5 w6 w7 w8 w9 w10", "w5 w6 w7 w8 w9 w10 w11", "w20")


def loaded(folder):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is run without some short cuts")
        return sl.load_model(str(folder), backend="bridge", device="cpu")


def problems(prompts=PROMPTS):
    return [sl.Problem(f"p{i}", prompt, 0, CHOICES) for i, prompt in enumerate(prompts)]


@torch.no_grad()
def expected_margins(folder, model, prompts=PROMPTS):
    published = AutoModelForCausalLM.from_pretrained(folder, **({} if "mamba" in folder.name else {"attn_implementation": "eager"})).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(written):
        return [1] * model.cfg.default_prepend_bos + tokenizer(written, add_special_tokens=False).input_ids

    found = []
    for prompt in prompts:
        scores = []
        for choice in CHOICES:
            ids = encode(prompt + choice)
            logits = published(torch.tensor([ids[:-1]]), use_cache=False).logits[0].log_softmax(-1)
            scores.append(math.fsum(float(logits[i - 1, ids[i]]) for i in range(len(encode(prompt)), len(ids))))
        found.append(scores[0] - scores[1])
    return found


@pytest.mark.parametrize("family", ["granite", "falcon-alibi", "mamba", "mpt", "opt-350m", "phi3-longrope"])
def test_problems_have_the_margins_that_they_have_alone(family, worded_checkpoint):
    """Before: granite's were eight times too large, falcon's and mamba's others together than alone; MPT and OPT-350m ended in a traceback."""
    folder = worded_checkpoint(family)
    model = loaded(folder)
    prompts = (*PROMPTS, " ".join(f"w{i}" for i in range(18))) if family == "phi3-longrope" else PROMPTS
    found = sl.evaluate(model, problems(prompts), scorer="continuation").frame["margin"].tolist()
    assert found == pytest.approx(expected_margins(folder, model, prompts), abs=1e-4)
    direction = sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(0)), 1)
    swept = sl.sweep(model, problems(prompts), direction, alphas=[0.0, 1.0], scorer="continuation").frame
    assert swept.loc[swept["alpha"] == 0, "margin"].tolist() == found
    with sl.steer(model, direction, alpha=1.0):
        alone = [float(sl.evaluate(model, [p], scorer="continuation").frame["margin"][0]) for p in problems(prompts)]
    assert swept.loc[swept["alpha"] == 1, "margin"].tolist() == pytest.approx(alone, abs=1e-4)


@torch.no_grad()
def test_a_model_without_kept_keys_generates_what_it_generates_alone(worded_checkpoint):
    folder = worded_checkpoint("mamba")
    model = loaded(folder)
    asked = [sl.Problem(f"p{i}", prompt, "w1") for i, prompt in enumerate(PROMPTS)]
    found = sl.sweep(model, asked, sl.Direction(torch.ones(32), 1), alphas=[0.0, 2.0], scorer=text(5), max_tokens=30).frame
    for alpha, mine in found.groupby("alpha"):
        for prompt, prediction in zip(PROMPTS, mine["prediction"], strict=True):
            ids = model.to_tokens(prompt)
            with sl.steer(model, sl.Direction(torch.ones(32), 1), alpha=float(alpha)):
                for _ in range(5):
                    ids = torch.cat([ids, forward(model, ids)[:, -1:].argmax(-1)], 1)
                    if int(ids[0, -1]) == 2:
                        break
            whole = model.tokenizer.decode(ids[0, model.to_tokens(prompt).shape[1] :], skip_special_tokens=True)
            assert prediction == whole.strip()


def test_what_is_left_out_is_said_once_and_recorded(worded_checkpoint):
    folder = worded_checkpoint("mamba")
    with pytest.warns(UserWarning, match=r"^mamba is run without some short cuts.*kept keys and values \(logits differ by"):
        model = sl.load_model(str(folder), backend="bridge", device="cpu")
    sl.evaluate(model, problems(), scorer="continuation")  # a second warning would be an error
    assert describe(model)["short_cuts_off"] == ["aligned", "pieces"]


def test_a_model_with_every_short_cut_says_nothing(tiny_model, backend):
    model = tiny_model("llama", backend)
    assert dict(short_cuts(model).off) == {}
    assert "short_cuts_off" not in describe(model)


@pytest.fixture
def handmade():
    """A model that no loader has seen."""
    if HookedTransformer is None:
        pytest.skip("this TransformerLens has no HookedTransformer")
    from transformer_lens import HookedTransformerConfig

    def make(**options):
        cfg = {
            "n_layers": 2,
            "d_model": 16,
            "n_ctx": 32,
            "d_head": 8,
            "n_heads": 2,
            "d_mlp": 24,
            "d_vocab": 20,
            "act_fn": "gelu",
            "seed": 1,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return HookedTransformer(HookedTransformerConfig(**(cfg | options))).eval()

    return make


@torch.no_grad()
def test_a_model_of_ones_own_is_checked_at_its_first_use(handmade):
    """Its unembedding is another one than `W_U`, which only a comparison can tell."""
    model = handmade()
    model.unembed.register_forward_hook(lambda module, inputs, output: output / 8)
    tokens = torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="logits of single positions"):
        known = short_cuts(model)
    assert set(known.off) == {"read_out"}
    final = shortcuts.run_to(model, tokens, 2)
    found = shortcuts.read_out(model, final.flatten(0, 1)).view(3, 9, 20)
    torch.testing.assert_close(found, model(tokens), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        shortcuts.read_out(model, final[:, -1], torch.tensor([4, 2])), model(tokens)[:, -1, [4, 2]], rtol=0, atol=1e-5
    )


def test_the_check_leaves_hooks_and_modes_as_they_were(handmade):
    model = handmade().train()
    model.blocks[0].mlp.eval()
    modes, calls = [module.training for module in model.modules()], []
    with sl.steer(model, sl.Direction(torch.ones(16), 0), alpha=2.0):
        model.blocks[1].hook_resid_pre.add_hook(lambda resid, hook: calls.append(1))
        short_cuts(model)
        assert calls == []
        with torch.no_grad():
            steered = model(torch.tensor([[1, 2, 3]]))
    assert calls == [1]
    assert [module.training for module in model.modules()] == modes
    model.reset_hooks()
    with torch.no_grad():
        assert not torch.equal(model(torch.tensor([[1, 2, 3]])), steered)


@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_short_context_has_room_for_the_check(handmade, context):
    assert dict(short_cuts(handmade(n_ctx=context)).off) == {}


def test_weights_that_make_no_numbers_are_named(handmade):
    model = handmade()
    with torch.no_grad():
        model.W_U.fill_(float("nan"))
    with pytest.raises(sl.InputError, match="not finite; its weights are damaged"):
        short_cuts(model)


def test_a_model_whose_stream_has_no_hook_points_is_refused_at_load(worded_checkpoint):
    with pytest.raises(sl.InputError, match=r"cannot load 'openai-gpt'.*blocks\.0\.hook_resid_post never fires"):
        loaded(worded_checkpoint("openai-gpt"))


def test_no_error_recommends_a_backend_that_fails(worded_checkpoint, backends):
    """Before: the bridge's error said to try backend='hooked', which does not know Falcon."""
    folder = worded_checkpoint("falcon-new")
    for backend in ("auto", *backends):
        with pytest.raises(sl.InputError, match=r"cannot load 'falcon-new'.*; use another model$") as found:
            sl.load_model(str(folder), backend=backend, device="cpu")
        assert "use backend=" not in str(found.value)


def test_no_resid_mid_is_explained_by_what_the_model_is(handmade, tiny_model, backend):
    attention_only = handmade(attn_only=True, d_mlp=None, act_fn=None)
    with pytest.raises(sl.InputError, match="there is no MLP behind its attention"):
        hook_name(attention_only, 0, "resid_mid")
    with pytest.raises(sl.InputError, match="attention and MLP run side by side"):
        hook_name(tiny_model("gpt_neox", backend), 0, "resid_mid")


def test_attention_only_models_are_steered_at_their_other_sites(handmade):
    model = handmade(attn_only=True, d_mlp=None, act_fn=None)
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        unsteered = model(tokens)
    vector = torch.randn(16, generator=torch.Generator().manual_seed(0))
    for site in ("resid_pre", "resid_post"):
        with sl.steer(model, sl.Direction(vector, 1, site), alpha=3.0), torch.no_grad():
            assert (model(tokens) - unsteered).abs().max() > 0.01
    with pytest.raises(sl.InputError, match="no MLP"), sl.steer(model, sl.Direction(torch.ones(16), 1, "resid_mid")):
        pass


def test_a_stream_that_is_not_where_its_hook_point_is_cannot_be_steered_there(worded_checkpoint):
    """OPT-350m's second norm sees rows and positions as one axis."""
    model = loaded(worded_checkpoint("opt-350m"))
    with pytest.raises(sl.InputError, match="resid_mid is not the stream between attention and MLP here"):
        hook_name(model, 1, "resid_mid")


def test_a_preview_keeps_rows_of_other_lengths_apart_where_they_would_change_each_other(worded_checkpoint):
    """Oracle: each problem alone."""
    model = loaded(worded_checkpoint("phi3-longrope"))
    prompts = ("w5 w6", " ".join(f"w{i}" for i in range(18)), "w3 w9 w1")
    direction = [sl.Direction(torch.ones(32), 1)]
    together = sl.preview(model, problems(prompts), direction, scorer="continuation").slopes["slope"].tolist()
    alone = [sl.preview(model, [p], direction, scorer="continuation").slopes["slope"][0] for p in problems(prompts)]
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_bridge_made_by_hand_is_checked_like_one_that_is_loaded(worded_checkpoint, tmp_path):
    from steerlab.models.backends import TransformerBridge

    folder = shutil.copytree(worded_checkpoint("granite"), tmp_path / "granite")
    published = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    model = TransformerBridge.boot_transformers(
        str(folder), hf_model=published, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
    )
    with pytest.warns(UserWarning, match="logits of single positions"):
        found = sl.evaluate(model, problems(), scorer="continuation").frame["margin"].tolist()
    assert found == pytest.approx(expected_margins(folder, model), abs=1e-4)


def test_a_device_without_room_is_no_disagreement(handmade, monkeypatch):
    """A short cut that could not be tried is not called wrong."""

    def full(*args, **options):
        raise torch.OutOfMemoryError("no more room")

    model = handmade()
    monkeypatch.setattr(shortcuts, "_read_out", full)
    with pytest.raises(torch.OutOfMemoryError):
        short_cuts(model)
    monkeypatch.undo()
    assert dict(short_cuts(model).off) == {}
