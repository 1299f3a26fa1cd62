"""Running a model to a layer and from a layer, and hooks that leave no trace."""

import re
from collections import Counter

import pytest
import torch

import steerlab as sl
from steerlab.models import hooked
from steerlab.models.encoding import token_ids
from steerlab.models.generation import generate
from steerlab.models.kv_cache import CacheView, KeyValueCache
from steerlab.models.model import backend_of, context_length, d_model, describe, device_of, hook_name, hooks, n_layers
from steerlab.models.passes import entering, forward, residuals, run_to
from steerlab.models.shortcuts import next_logits, read_out, run_from

TOKENS = torch.randint(0, 64, (3, 11), generator=torch.Generator().manual_seed(0))
FAMILIES = ("gpt2", "gpt_neox", "llama-grouped", "phi")
CLOSE = {"rtol": 0, "atol": 1e-4}
VECTOR = torch.linspace(-1, 1, 32)


@pytest.fixture(params=FAMILIES)
def model(request, backend, tiny_model):
    return tiny_model(request.param, backend)


@pytest.fixture
def gpt2(backend, tiny_model):
    return tiny_model("gpt2", backend)


def all_hooks(model):
    """Every hook on every module, of TransformerLens and of torch, and every forward that was put in a module's place."""
    return [
        (name, list(map(id, getattr(module, "fwd_hooks", ()))), list(module._forward_hooks), list(module._forward_pre_hooks), "forward" in vars(module))
        for name, module in model.named_modules()
    ]  # fmt: skip


@pytest.fixture
def traceless(gpt2):
    """The model, which the test must leave with the hooks and the logits that it had."""
    before, logits = all_hooks(gpt2), forward(gpt2, TOKENS)
    yield gpt2
    assert all_hooks(gpt2) == before
    assert torch.equal(forward(gpt2, TOKENS), logits)


# Names


def test_a_site_has_the_name_that_transformer_lens_gives_it(model):
    assert hook_name(model, 1) == "blocks.1.hook_resid_post"
    assert hook_name(model, 0, "resid_pre") == "blocks.0.hook_resid_pre"


@pytest.mark.parametrize("layer", [3, -1, 14])
def test_a_layer_that_is_not_there_is_named_with_those_that_are(layer, gpt2):
    with pytest.raises(ValueError, match=f"layer={layer}: this model has 3 layers; use 0 to 2"):
        hook_name(gpt2, layer)


def test_a_layer_that_is_no_whole_number_is_named_by_its_kind(gpt2):
    with pytest.raises(ValueError, match="layer=True is a bool; use a whole number from 0 to 2"):
        hook_name(gpt2, True)


def test_an_unknown_site_is_named_with_those_that_exist(gpt2):
    with pytest.raises(ValueError, match="site='mlp'; use one of resid_pre, resid_mid, resid_post"):
        hook_name(gpt2, 0, "mlp")


@pytest.mark.parametrize("family", ["gpt_neox", "phi"])
def test_where_attention_and_mlp_run_side_by_side_nothing_is_between_them(family, backend, tiny_model):
    with pytest.raises(ValueError, match=r"site='resid_mid': block 1 has no .*use resid_pre or resid_post"):
        hook_name(tiny_model(family, backend), 1, "resid_mid")


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox-sequential", "llama"])
def test_where_they_run_one_behind_the_other_there_is(family, backend, tiny_model):
    model = tiny_model(family, backend)
    between = residuals(model, TOKENS, [1], "resid_mid")[1]
    assert not torch.equal(between, run_to(model, TOKENS, 1))
    assert not torch.equal(between, run_to(model, TOKENS, 2))


def test_what_provenance_says_of_a_model(gpt2, backend):
    said = describe(gpt2)
    assert said["backend"] == backend_of(gpt2) == backend
    assert (said["n_layers"], said["d_model"], said["d_vocab"]) == (n_layers(gpt2), d_model(gpt2), 64) == (3, 32, 64)
    assert (said["name"], said["processing"], said["dtype"], said["revision"]) == ("gpt2", "raw", "float32", None)
    assert re.fullmatch("[0-9a-f]{64}", said["weights_sha256"])
    assert context_length(gpt2) == 64
    assert device_of(gpt2) == torch.device("cpu")


def test_something_else_is_not_a_model():
    with pytest.raises(TypeError, match="model is a Linear; expected a TransformerLens HookedTransformer or TransformerBridge"):
        backend_of(torch.nn.Linear(2, 2))


# To a layer, from a layer


@torch.no_grad()
def test_what_enters_a_block_is_what_transformer_lens_caches(model):
    """Oracle: TransformerLens' own run_with_cache."""
    _, cache = model.run_with_cache(TOKENS)
    found = entering(model, TOKENS, [0, 1, 2, 3])
    for block in range(3):
        torch.testing.assert_close(found[block], cache[f"blocks.{block}.hook_resid_pre"], **CLOSE)
        torch.testing.assert_close(run_to(model, TOKENS, block + 1), cache[f"blocks.{block}.hook_resid_post"], **CLOSE)
    assert torch.equal(found[3], run_to(model, TOKENS, 3))


@torch.no_grad()
@pytest.mark.parametrize("layer", range(4))
def test_resuming_is_the_full_run_to_the_bit(layer, model):
    final = run_from(model, run_to(model, TOKENS, layer), layer, TOKENS)
    assert torch.equal(final, run_to(model, TOKENS, 3))
    torch.testing.assert_close(read_out(model, final.flatten(0, 1)).view(3, 11, 64), forward(model, TOKENS), **CLOSE)


@torch.no_grad()
def test_a_larger_batch_and_padding_change_nothing(model):
    """Rows stacked for several cells of a sweep, and rows padded on the right, against single runs."""
    padded = TOKENS.clone()
    padded[0, 7:] = 0
    stream = run_to(model, padded, 1).repeat(4, 1, 1)
    final = run_from(model, stream, 1, padded.repeat(4, 1))
    alone = run_to(model, TOKENS[:1, :7], 3)
    torch.testing.assert_close(final[9, :7], alone[0], **CLOSE)


@torch.no_grad()
def test_reading_some_columns_is_reading_all_and_choosing(model):
    final = run_to(model, TOKENS, 3)[:, -1]
    columns = torch.tensor([5, 63, 0])
    torch.testing.assert_close(read_out(model, final, columns), read_out(model, final)[:, columns], **CLOSE)


@torch.no_grad()
def test_soft_capped_logits_are_capped_here_too(backend, tiny_model):
    """Gemma 2 squeezes its logits behind the unembedding."""
    model = tiny_model("gemma2", "bridge")
    final = run_to(model, TOKENS, 3)
    columns = torch.arange(0, 64, 7)
    torch.testing.assert_close(read_out(model, final[:, -1], columns), forward(model, TOKENS)[:, -1, columns], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("layer", range(4))
def test_skipped_blocks_are_not_called(layer, model):
    stream = run_to(model, TOKENS, layer)
    calls: Counter[int] = Counter()
    handles = [
        inner.register_forward_hook(lambda *_, at=block: calls.update([at]))
        for block in range(3)
        for inner in model.blocks[block].modules()
        if inner is not model.blocks[block] and any(True for _ in inner.parameters())
    ]
    try:
        run_from(model, stream, layer, TOKENS)
        assert set(calls) == set(range(layer, 3))
        calls.clear()
        run_to(model, TOKENS, layer)
        assert set(calls) == set(range(layer))
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def test_a_hook_on_the_first_resumed_block_sees_what_was_given(model):
    stream, seen = run_to(model, TOKENS, 1), []
    with hooks(model, [("blocks.1.hook_resid_pre", lambda resid: resid + 1), ("blocks.1.hook_resid_pre", seen.append)]):
        final = run_from(model, stream, 1, TOKENS)
    assert torch.equal(seen[0], stream + 1)
    assert torch.equal(final, run_from(model, stream + 1, 1, TOKENS))


# Hooks


@torch.no_grad()
def test_hooks_run_in_the_order_given(traceless):
    seen = []
    point = "blocks.1.hook_resid_post"
    with hooks(traceless, [(point, lambda resid: resid * 0), (point, lambda resid: resid + 7), (point, seen.append)]):
        forward(traceless, TOKENS)
    assert torch.equal(seen[0], torch.full_like(seen[0], 7))


@torch.no_grad()
def test_an_error_inside_leaves_no_hook(traceless):
    def steered_until(error):
        with sl.steer(traceless, sl.Direction(VECTOR, 1)):
            forward(traceless, TOKENS)
            raise error

    with pytest.raises(KeyError):
        steered_until(KeyError("mine"))


@torch.no_grad()
def test_an_error_inside_a_hook_leaves_no_hook(traceless):
    def fail(resid):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), hooks(traceless, [("blocks.2.hook_resid_post", fail)]):
        forward(traceless, TOKENS)
    with pytest.raises(ZeroDivisionError), hooks(traceless, [("blocks.2.hook_resid_pre", fail)]):
        run_from(traceless, run_to(traceless, TOKENS, 1), 1, TOKENS)


def test_an_unknown_hook_point_leaves_those_before_it_clean(traceless):
    with pytest.raises(KeyError), hooks(traceless, [("blocks.0.hook_resid_post", lambda resid: None), ("blocks.9.x", lambda resid: None)]):
        pass


@torch.no_grad()
def test_runs_to_and_from_a_layer_leave_no_hook(traceless):
    run_from(traceless, run_to(traceless, TOKENS, 2), 2, TOKENS)


@torch.no_grad()
def test_a_users_own_hook_stays_and_acts(gpt2):
    point = gpt2.hook_dict["blocks.0.hook_resid_post"]
    point.add_hook(lambda resid, hook: resid + 1)
    try:
        mine, logits = list(point.fwd_hooks), forward(gpt2, TOKENS)
        with sl.steer(gpt2, sl.Direction(VECTOR, 0), alpha=2.0):
            both = forward(gpt2, TOKENS)
        assert point.fwd_hooks == mine
        assert torch.equal(forward(gpt2, TOKENS), logits)
    finally:
        gpt2.reset_hooks()
    with sl.steer(gpt2, sl.Direction(2 * VECTOR + 1, 0)):
        torch.testing.assert_close(forward(gpt2, TOKENS), both, **CLOSE)


@torch.no_grad()
def test_steering_inside_steering_adds_up_and_ends_one_by_one(traceless):
    one, two = sl.Direction(VECTOR, 0), sl.Direction(VECTOR.flip(0), 2)
    with sl.steer(traceless, [one, two], alpha=[1.0, -2.0]):
        together = forward(traceless, TOKENS)
    with sl.steer(traceless, one):
        alone = forward(traceless, TOKENS)
        with sl.steer(traceless, two, alpha=-2.0):
            torch.testing.assert_close(forward(traceless, TOKENS), together, **CLOSE)
        assert torch.equal(forward(traceless, TOKENS), alone)


# Cached keys and values


@torch.no_grad()
def test_generation_with_cached_keys_is_the_uncached_one_token_for_token(toy_model, backend):
    """Oracle: the whole sequence run again for every token, its most likely next token taken."""
    model = toy_model(backend)
    tokens = torch.randint(4, model.cfg.d_vocab, (4, 9), generator=torch.Generator().manual_seed(5))
    uncached = tokens
    for _ in range(12):
        uncached = torch.cat([uncached, forward(model, uncached)[:, -1:].argmax(-1)], 1)
    for answer, row in zip(generate(model, KeyValueCache(model, 4), tokens, 12), uncached[:, 9:].tolist(), strict=True):
        stop = row.index(2) if 2 in row else len(row)  # 2 ends an answer
        assert list(answer.generated) == row[:stop]


@torch.no_grad()
def test_a_real_model_tells_the_same_story_with_and_without_cached_keys(stories, backend):
    model = stories(backend)
    tokens = torch.tensor([token_ids(model, "Once upon a time")])
    uncached = tokens
    for _ in range(24):
        uncached = torch.cat([uncached, forward(model, uncached)[:, -1:].argmax(-1)], 1)
    told = generate(model, KeyValueCache(model, 1), tokens, 24)[0].generated
    assert list(told) == uncached[0, tokens.shape[1] :].tolist()
    assert "Lily" in model.tokenizer.decode(told)


def test_a_cache_counts_what_it_was_fed(model):
    cache = KeyValueCache(model, 3)
    with torch.no_grad():
        next_logits(model, cache, TOKENS[:, :4])
        next_logits(model, cache, TOKENS[:, 4:5])
    assert cache.length == 5


@torch.no_grad()
def test_rows_taken_from_a_cache_of_different_lengths_do_not_attend_to_its_padding(model):
    """Oracle: each row alone, run whole."""
    cache, lengths = KeyValueCache(model, 3), (6, 4, 2)
    next_logits(model, cache, TOKENS[:, :6])
    part = CacheView(cache, range(n_layers(model)), rows=range(3), to=range(3), lengths=lengths)
    rows = torch.tensor([2, 0, 2, 1])
    taken = KeyValueCache.aligned(model, 3, [part], room=1).take(rows)
    found = next_logits(model, taken, TOKENS[rows, 6:7])
    for logits, row in zip(found, rows.tolist(), strict=True):
        whole = torch.cat([TOKENS[row, : lengths[row]], TOKENS[row, 6:7]])[None]
        torch.testing.assert_close(logits, forward(model, whole)[0, -1], **CLOSE)


# Tokens


def test_a_text_becomes_the_tokens_of_to_tokens(toy_model, backend):
    model = toy_model(backend)
    text = "Tom has 3 apples."
    assert token_ids(model, text) == model.to_tokens(text)[0].tolist()
    assert token_ids(model, text, prepend_bos=False) == token_ids(model, text)[1:]
    assert token_ids(model, "") == [1]
    assert token_ids(model, "", prepend_bos=False) == []


def test_a_long_text_is_not_cut(toy_model, backend):
    model = toy_model(backend)
    assert len(token_ids(model, "3 " * 500)) == 501


def test_models_that_no_file_describes_are_told_apart_by_their_weights():
    def made(seed):
        torch.manual_seed(seed)
        return tiny_untrained()

    one, other = made(0), made(1)
    assert describe(one)["fingerprint"] == describe(made(0))["fingerprint"] != describe(other)["fingerprint"]
    before = describe(one)["fingerprint"]
    with torch.no_grad():
        next(one.parameters())[0] += 1
    assert describe(one)["fingerprint"] != before
    ours, theirs = (sl.Direction(torch.ones(8), 0, model=describe(model)) for model in (one, other))
    with pytest.raises(ValueError, match="different models"):
        ours + theirs


def tiny_untrained():
    """A model made by hand: one block, 8 dimensions."""
    if hooked.HookedTransformer is None:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    from transformer_lens import HookedTransformerConfig

    cfg = HookedTransformerConfig(n_layers=1, d_model=8, n_ctx=16, d_head=4, n_heads=2, d_vocab=11, act_fn="gelu", device="cpu")
    with hooked.no_deprecation():
        return hooked.HookedTransformer(cfg)
