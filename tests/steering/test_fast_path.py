"""The fast path does only the work that the question needs, and leaves the model as it was."""

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab.models import generation, memory, reading
from steerlab.models.batches import Read, TokenRow, batches_of, smaller
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.memory import parse_memory, pass_tokens, token_bytes
from steerlab.models.model import hook_name, hooks, in_precision, n_layers
from steerlab.models.passes import entering, forward, run_to
from steerlab.models.shortcuts import mlp_only_at, run_from
from steerlab.steering import wavefront
from steerlab.tasks.scorers import Outcome, Scorer

CLOSE = {"rtol": 0, "atol": 1e-4}
FAMILIES = ("gpt2", "gpt_neox", "gpt_neox-sequential", "llama-grouped", "mistral-sliding", "qwen2", "phi-2", "stablelm", "gemma", "gemma2")
BRIDGED = ("stablelm", "gemma", "gemma2")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, backend, tiny_model):
    return tiny_model(request.param, "bridge" if request.param in BRIDGED else backend)


@pytest.fixture(scope="module")
def gpt2(backend, tiny_model):
    return tiny_model("gpt2", backend)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 64, shape, generator=torch.Generator().manual_seed(seed))


def direction(layer: int, seed: int = 0, site: str = "resid_post", name: str = "direction") -> sl.Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return sl.Direction(vector / vector.norm() * 6, layer, site, name=name)


def choice(*rows: tuple[int, ...], prompt: int | None = None) -> list[sl.Problem]:
    """Problems that carry their rows; the logits of four tokens are read at the last position."""
    return [sl.Problem(f"p{i}", "x", 0, meta={"tokens": row, "prompt": prompt or len(row)}) for i, row in enumerate(rows)]


def _rows(model, problem):
    row = problem.meta["tokens"]
    return [TokenRow(row, problem.meta["prompt"], (Read(len(row) - 1, (3, 5, 7, 9), log_prob=False),))]


def _judge(model, problem, answers):
    values = answers[0].reads[0]
    return Outcome(str(max(range(4), key=values.__getitem__)), correct=True, margin=values[0] - values[1], nll=values[2])


LOGITS = Scorer("logits", _rows, _judge)


def fed(model) -> tuple[list, list[int]]:
    """Hooks that count the positions that enter each block."""
    counts = [0] * n_layers(model)

    def count(layer):
        def fn(resid):
            counts[layer] += resid.shape[0] * resid.shape[1]

        return fn

    return [(hook_name(model, layer, "resid_pre"), count(layer)) for layer in range(n_layers(model))], counts


# Blocks and caches


@torch.no_grad()
def test_blocks_can_be_run_one_after_the_other(model):
    stream = run_to(model, tokens(3, 9), 0)
    for layer in range(3):
        stream = run_from(model, stream, layer, tokens(3, 9), until=layer + 1)
        torch.testing.assert_close(stream, run_to(model, tokens(3, 9), layer + 1), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("grows", [True, False])
def test_rows_taken_from_a_cache_go_on_from_any_block(model, grows):
    """Oracle: the whole rows at once."""
    whole, index = tokens(3, 10), torch.tensor([2, 0, 2, 1])
    past = KeyValueCache(model, 3)
    entering(model, whole[:, :7], [n_layers(model)], past)
    assert past.length == 7
    streams = entering(model, whole[index], [0, 1, 2, 3])
    for block in range(3):
        taken = past.take(index, stop=6, blocks=range(block, 3), grows=grows)
        final = run_from(model, streams[block][:, 6:8], block, whole[index, 6:8], past=taken)
        torch.testing.assert_close(final, streams[3][:, 6:8], **CLOSE)
        if grows:
            final = run_from(model, streams[block][:, 8:], block, whole[index, 8:], past=taken)
            torch.testing.assert_close(final, streams[3][:, 8:], **CLOSE)
    torch.testing.assert_close(run_to(model, whole[:, 7:], 3, past), run_to(model, whole, 3)[:, 7:], **CLOSE)


@torch.no_grad()
def test_the_last_mlp_runs_only_where_it_is_read(model):
    full, rows, columns = run_to(model, tokens(4, 9), 3), torch.tensor([0, 1, 3, 3]), torch.tensor([8, 2, 0, 5])
    seen = []
    handle = model.blocks[2].mlp.register_forward_hook(lambda module, args, output: seen.append(output.numel() // output.shape[-1]))
    try:
        with mlp_only_at(model, rows, columns, (4, 9)) as narrowed:
            found = run_to(model, tokens(4, 9), 3)
    finally:
        handle.remove()
    assert narrowed
    assert seen == [4]
    torch.testing.assert_close(found[rows, columns], full[rows, columns], **CLOSE)
    assert torch.equal(run_to(model, tokens(4, 9), 3), full)


def test_the_last_mlp_is_left_alone_where_someone_looks_into_it(gpt2):
    at = torch.tensor([0]), torch.tensor([8])
    point = next(name for name in gpt2.hook_dict if name.startswith("blocks.2.") and "mlp" in name)
    with hooks(gpt2, [(point, lambda activation: None)]), mlp_only_at(gpt2, *at, (4, 9)) as narrowed:
        assert not narrowed
    with mlp_only_at(gpt2, *at, (1, 1)) as narrowed:
        assert not narrowed  # nothing would be saved


# Shared beginnings


def test_a_header_and_prompts_that_rows_share_stand_once_in_a_batch():
    header = tuple(range(20))
    rows = [TokenRow((*header, 30 + p, 31, 32, 33, 40 + e), 24) for p in range(2) for e in range(3)]
    (batch,) = batches_of(rows, range(len(rows)), 1000)
    assert [(level.start, level.stop, tuple(level.tokens.shape)) for level in batch.levels] == [
        (0, 20, (1, 20)),
        (20, 24, (2, 4)),
        (24, 25, (6, 1)),
    ]
    assert batch.size == 20 + 8 + 6
    for i, row in enumerate(batch.rows):
        parts = [level.tokens[level.of[i]].tolist() for level in batch.levels]
        assert sum(parts, []) == list(row.tokens)  # noqa: RUF017


@pytest.mark.parametrize("room", [1, 7, 30, 200, 10_000])
def test_batches_hold_every_row_once_and_as_many_positions_as_allowed(room):
    generator = torch.Generator().manual_seed(room)
    lengths = torch.randint(2, 30, (40,), generator=generator).tolist()
    rows = [TokenRow(tuple(tokens(n, seed=i).tolist()), max(1, n - 3)) for i, n in enumerate(lengths)]
    batches = batches_of(rows, range(len(rows)), room)
    assert sorted(i for batch in batches for i in batch.index) == list(range(40))
    assert all(batch.size <= room or len(batch.rows) == 1 for batch in batches)


def test_rows_that_share_nothing_worth_it_are_not_cut():
    rows = [TokenRow((1, *tokens(30, seed=i).tolist()), 31) for i in range(8)]
    assert all(len(batch.levels) == 1 for batch in batches_of(rows, range(len(rows)), 1000))


@pytest.mark.parametrize("share", [False, True])
def test_rows_of_about_one_length_run_together_unless_hooks_count_positions(share):
    rows = [TokenRow(tuple(tokens(100 + i, seed=i).tolist()), 100 + i) for i in range(4)]
    (together,) = batches_of(rows, range(len(rows)), 1000, share=share)
    assert len(together.rows) == 4
    assert [len(batch.rows) for batch in smaller(rows, together, 210)] == [2, 2]  # padded again where memory ran out
    assert [batch.width for batch in batches_of(rows, range(len(rows)), 1000, share=share, pad=False)] == [100, 101, 102, 103]


@torch.no_grad()
def test_shared_beginnings_are_run_once_for_each_cell(gpt2):
    header = tuple(tokens(24).tolist())
    problems = choice(*((*header, *tokens(4, seed=i).tolist()) for i in range(1, 9)))
    counting, counts = fed(gpt2)
    expected = sl.sweep(gpt2, problems, direction(1), alphas=[0.0, 2.0], scorer=LOGITS, max_tokens=10_000)
    original = wavefront.run_from
    blocks = []

    def watched(model, resid, layer, *args, **options):
        blocks.append((layer, resid.shape[0] * resid.shape[1]))
        return original(model, resid, layer, *args, **options)

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(wavefront, "run_from", watched)
        again = sl.sweep(gpt2, problems, direction(1), alphas=[0.0, 2.0], scorer=LOGITS, max_tokens=10_000)
    assert blocks == [(2, 24), (2, 8 * 4)]  # the steered header once, then the rests
    assert again.frame.equals(expected.frame)
    with hooks(gpt2, counting):  # hooks may count positions, so whole rows are run
        sl.evaluate(gpt2, problems, scorer=LOGITS)
    assert counts == [8 * 28] * 3


@torch.no_grad()
@pytest.mark.parametrize("steered", [False, True])
def test_a_header_is_encoded_once_for_all_batches(gpt2, steered):
    header = tuple(tokens(29).tolist())  # no multiple of a rest, so that its run can be told from theirs
    problems = choice(*((*header, *tokens(4 + i % 3, seed=i).tolist()) for i in range(1, 13)))
    original, columns = reading.entering, []

    def watched(model, fed, *args, **options):
        columns.append(fed.numel())
        return original(model, fed, *args, **options)

    def work(max_tokens):
        if steered:
            return sl.sweep(gpt2, problems, direction(1), alphas=[2.0], positions="last", scorer=LOGITS, max_tokens=max_tokens).frame
        return sl.evaluate(gpt2, problems, scorer=LOGITS, max_tokens=max_tokens).frame

    expected = work(10_000)
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(reading, "entering", watched)
        found = work(50)
    assert len(columns) > 3  # several batches
    assert columns.count(29) == 1
    assert list(found["prediction"]) == list(expected["prediction"])
    assert np.allclose(found["margin"], expected["margin"], atol=1e-4, rtol=0)


# Only what is steered is run


@pytest.mark.parametrize(("layer", "blocks"), [(0, [1, 2]), (1, [2]), (2, [])])
def test_steering_the_last_position_runs_one_position_for_each_cell(gpt2, monkeypatch, layer, blocks):
    problems = choice(*(tuple(tokens(12, seed=i).tolist()) for i in range(3)))
    runs, original = [], wavefront.run_from
    monkeypatch.setattr(
        wavefront, "run_from", lambda model, resid, at, **o: runs.append((at, tuple(resid.shape[:2]))) or original(model, resid, at, **o)
    )
    sl.sweep(gpt2, problems, direction(layer), alphas=[-1.0, 0.0, 1.0, 2.0], positions="last", scorer=LOGITS)
    assert runs == ([(blocks[0], (3 * 3, 1))] if blocks else [])  # three problems under three alphas, the prompt not again


def test_cells_of_several_layers_share_one_growing_pass(gpt2, monkeypatch):
    problems = choice(tuple(tokens(12).tolist()))
    runs, original = [], wavefront.run_from
    monkeypatch.setattr(
        wavefront, "run_from", lambda model, resid, at, **o: runs.append((at, len(resid))) or original(model, resid, at, **o)
    )
    directions = {layer: direction(layer) for layer in range(3)}
    sl.sweep(gpt2, problems, directions, alphas=[-1.0, 1.0], positions="last", scorer=LOGITS)
    assert runs == [(1, 2), (2, 4)]  # block 1 for layer 0; block 2 for layers 0 and 1; layer 2 needs no block


@torch.no_grad()
@pytest.mark.parametrize(
    ("operator", "positions"),
    [
        pytest.param(operator, positions, marks=[] if (operator, positions) in {("add", "all"), ("rotate", "last")} else pytest.mark.slow)
        for operator in sl.OPERATORS
        for positions in ("all", "last")
    ],
)
def test_several_layers_steered_together_are_steer_with_several_directions(model, operator, positions):
    """Oracle: `steer` on the plain model, one problem at a time."""
    problems = choice(*(tuple(tokens(n, seed=n).tolist()) for n in (5, 9, 9)))
    both = [direction(0), direction(2, 1, name="other"), direction(2, 2, "resid_pre", name="third")]
    swept = sl.sweep(model, problems, both, alphas=[0.0, 1.5], operator=operator, positions=positions, scorer=LOGITS, together=True)
    assert set(swept.frame["direction"]) == {"direction + other + third"}
    assert set(swept.frame["layer"]) == {0}
    for problem, line in zip(problems, swept.frame[swept.frame["alpha"] == 1.5].itertuples(), strict=True):
        with sl.steer(model, both, alpha=1.5, operator=operator, positions=positions):
            logits = forward(model, torch.tensor([problem.meta["tokens"]]))[0, -1]
        assert line.margin == pytest.approx(float(logits[3] - logits[5]), abs=1e-4)
        assert line.nll == pytest.approx(float(logits[7]), abs=1e-4)
    assert (swept.checks["calls"] > 0).tolist() == [False, True]


def test_the_model_is_as_it_was_also_after_an_error(model, monkeypatch):
    problems = choice(*(tuple(tokens(n, seed=n).tolist()) for n in (5, 9)))
    state = {name: parameter.clone() for name, parameter in model.named_parameters()}
    plain = forward(model, tokens(2, 9))
    point = hook_name(model, 2, "resid_pre")
    before = [len(p.fwd_hooks) for p in model.hook_dict.values()]
    modules = [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in m.__dict__) for m in model.modules()]

    def breaks(resid, vector, alpha):
        if len(resid) > 1:
            raise KeyError("in the middle")
        return resid + alpha * vector

    for operator in (breaks, "add"):
        with pytest.raises(KeyError), hooks(model, [] if callable(operator) else [(point, lambda resid: {}["missing"])]):
            sl.sweep(model, problems, direction(0), alphas=[1.0, 2.0], scorer=LOGITS, operator=operator, precision="float64")
    assert [len(p.fwd_hooks) for p in model.hook_dict.values()] == before
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in m.__dict__) for m in model.modules()] == modules
    assert torch.equal(forward(model, tokens(2, 9)), plain)
    assert all(torch.equal(state[name], parameter) for name, parameter in model.named_parameters())


# Memory


@pytest.mark.parametrize(
    ("text", "wanted"), [("2GB", 2 * 10**9), ("512 MiB", 512 * 2**20), ("1.5kb", 1500), (4096, 4096), ("7", 7), ("0.5GiB", 2**29)]
)
def test_budgets_are_read_as_people_write_them(text, wanted):
    assert parse_memory(text) == wanted


@pytest.mark.parametrize("text", ["much", "2 horses", "-1GB", "0", 0, True, "", None])
def test_a_budget_that_is_none_is_named(text):
    with pytest.raises(ValueError, match="give a number of bytes, or a text such as '2GB'"):
        parse_memory(text)


def test_a_budget_sets_the_size_of_a_pass(gpt2):
    assert pass_tokens(gpt2, memory=token_bytes(gpt2) * 100) == 50  # the other half is for logits and what is kept
    assert pass_tokens(gpt2, 30, memory=token_bytes(gpt2) * 100) == 30
    assert pass_tokens(gpt2, memory="100GB") == pass_tokens(gpt2) <= memory.MAX_TOKENS["cpu"]
    with pytest.raises(ValueError, match="memory=10: one position of this model takes about"):
        pass_tokens(gpt2, memory=10)
    with pytest.raises(ValueError, match="max_tokens=0; use a whole number"):
        pass_tokens(gpt2, 0)


@pytest.mark.parametrize("most", [12, 40])
def test_where_memory_runs_out_smaller_batches_give_the_same_answers(gpt2, most):
    problems = choice(*(tuple(tokens(n, seed=n).tolist()) for n in (4, 6, 9, 12, 12)))

    def run():
        swept = sl.sweep(gpt2, problems, direction(0), alphas=[-1.0, 1.0, 2.0], scorer=LOGITS)
        return swept.frame, sl.evaluate(gpt2, problems, scorer=LOGITS).frame

    expected = run()

    def full(resid):
        if resid.shape[0] * resid.shape[1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with hooks(gpt2, [(hook_name(gpt2, 2, "resid_pre"), full)]):
        found = run()
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(torch.tensor(a["margin"]), torch.tensor(b["margin"]), **CLOSE)
        assert list(a["prediction"]) == list(b["prediction"])


def test_what_does_not_fit_at_all_is_said(gpt2):
    def full(resid):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    problems = choice(tuple(tokens(9).tolist()))
    with hooks(gpt2, [(hook_name(gpt2, 1, "resid_pre"), full)]):
        with pytest.raises(MemoryError, match="not even 9 positions at a time fit into memory"):
            sl.evaluate(gpt2, problems, scorer=LOGITS)
        with pytest.raises(MemoryError, match="not even 9 positions"):
            sl.sweep(gpt2, problems, direction(0), alphas=[1.0], scorer=LOGITS)


def test_other_errors_are_not_taken_for_a_lack_of_memory(gpt2):
    with hooks(gpt2, [(hook_name(gpt2, 1, "resid_pre"), lambda resid: resid @ resid)]), pytest.raises(RuntimeError, match="Expected size"):
        sl.evaluate(gpt2, choice(tuple(tokens(9).tolist())), scorer=LOGITS)


# Precision


@torch.no_grad()
def test_a_model_in_bfloat16_is_the_model_loaded_in_bfloat16(backend, tiny_model, tiny_checkpoint):
    for family in ("gpt2", "llama-grouped"):
        model = tiny_model(family, backend)
        before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
        plain = forward(model, tokens(2, 9))
        loaded = sl.load_model(str(tiny_checkpoint(family)), backend=backend, device="cpu", dtype="bfloat16")
        with in_precision(model, "bfloat16"):
            assert torch.equal(forward(model, tokens(2, 9)), forward(loaded, tokens(2, 9)))
        assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == before
        assert torch.equal(forward(model, tokens(2, 9)), plain)


def test_a_lower_precision_says_how_many_predictions_differ(gpt2):
    problems = choice(*(tuple(tokens(8, seed=i).tolist()) for i in range(40)))
    options = {"alphas": [-1.0, 0.0, 1.0], "scorer": LOGITS}
    own, low = (sl.sweep(gpt2, problems, direction(1), **options, precision=p) for p in (None, "bfloat16"))
    assert own.precision is None
    assert (low.precision.dtype, low.precision.compared) == ("bfloat16", 16 * 4)  # the baseline and three cells, on 16 problems
    compared = sl.sweep(gpt2, problems, direction(1), **options, precision="float64").precision
    assert compared.different == 0
    worst = (own.frame["margin"] - low.frame["margin"]).abs().max()
    assert 1e-4 < worst < 0.5
    assert f"bfloat16: {low.precision.different} of 64 predictions in a sample differ" in low.warnings()[-1]
    drawn = {"n": 3, "rng": np.random.default_rng(0)}
    control = sl.random_control(gpt2, problems, direction(1), alpha=1.0, **drawn, scorer=LOGITS, precision="bfloat16")
    assert control.precision.compared == 16 * 5


def test_an_unknown_precision_is_named(gpt2):
    with pytest.raises(ValueError, match="precision='int8'; use float32, bfloat16"):
        sl.sweep(gpt2, choice((1, 2, 3)), direction(1), scorer=LOGITS, precision="int8")


# What a hostile reading found


def _continued(model, problem):
    row = problem.meta["tokens"]
    return [TokenRow(row, len(row), new_tokens=problem.meta.get("new_tokens", 4))]


def _said(model, problem, answers):
    return Outcome(" ".join(map(str, answers[0].generated)), correct=True, margin=0.0, nll=0.0)


CONTINUED = Scorer("continued", _continued, _said, generates=True)


@torch.no_grad()
@pytest.mark.parametrize("operator", [name for name in sl.OPERATORS if name != "add"])
def test_directions_that_act_together_act_in_the_models_order(gpt2, operator):
    """Oracle: hooks on the whole model. What leaves block 0 is what enters block 1, so both act at one place."""
    problems = choice(tuple(tokens(9).tolist()))
    entering_1, leaving_0 = direction(1, 1, "resid_pre", "entering"), direction(0, 2, "resid_post", "leaving")
    swept = sl.sweep(gpt2, problems, [entering_1, leaving_0], alphas=[1.5], operator=operator, together=True, scorer=LOGITS)
    with sl.steer(gpt2, [entering_1, leaving_0], alpha=1.5, operator=operator):
        logits = forward(gpt2, tokens(9)[None])[0, -1]
    assert swept.frame["margin"].iloc[0] == pytest.approx(float(logits[3] - logits[5]), abs=1e-4)
    assert swept.frame["nll"].iloc[0] == pytest.approx(float(logits[7]), abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("steered", [False, True])
def test_rows_generate_as_many_tokens_as_each_asks_for(gpt2, steered):
    metas = [{"tokens": tuple(tokens(6, seed=n).tolist()), "new_tokens": n} for n in (3, 7)]
    problems = [sl.Problem(f"p{i}", "x", 0, meta=meta) for i, meta in enumerate(metas)]
    if steered:
        said = sl.sweep(gpt2, problems, direction(1), alphas=[0.5], scorer=CONTINUED).frame["prediction"]
    else:
        said = sl.evaluate(gpt2, problems, scorer=CONTINUED).frame["prediction"]
    assert [len(text.split()) for text in said] == [3, 7]


@torch.no_grad()
def test_a_hook_behind_the_last_block_sees_all_of_it(gpt2):
    problems = choice(*(tuple(tokens(9, seed=i).tolist()) for i in range(3)))
    mixing = (hook_name(gpt2, 2, "resid_post"), lambda resid: resid + resid.mean(1, keepdim=True))
    with hooks(gpt2, [mixing]):
        found = sl.evaluate(gpt2, problems, scorer=LOGITS).frame["nll"]
        expected = [float(forward(gpt2, tokens(9, seed=i)[None])[0, -1, 7]) for i in range(3)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("steered", [False, True])
def test_a_header_is_encoded_once_for_all_that_generates(gpt2, steered):
    header = tuple(tokens(29).tolist())
    problems = choice(*((*header, *tokens(4 + i % 3, seed=i).tolist()) for i in range(1, 9)))
    original, columns = reading.entering, []

    def watched(model, fed, *args, **options):
        columns.append(tuple(fed.shape))
        return original(model, fed, *args, **options)

    def work(max_tokens):
        if steered:
            return sl.sweep(gpt2, problems, direction(1), alphas=[2.0], positions="last", scorer=CONTINUED, max_tokens=max_tokens).frame
        return sl.evaluate(gpt2, problems, scorer=CONTINUED, max_tokens=max_tokens).frame

    expected = work(10_000)
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(reading, "entering", watched)
        found = work(40)
    assert columns.count((1, 29)) == 1
    assert len(columns) > 3  # several batches
    assert list(found["prediction"]) == list(expected["prediction"])


@torch.no_grad()
def test_generation_goes_on_with_one_row_where_the_device_takes_no_more(gpt2):
    problems = choice(*(tuple(tokens(50, seed=i).tolist()) for i in range(6)))
    expected = sl.sweep(gpt2, problems, direction(1), alphas=[-1.0, 1.0], positions="last", scorer=CONTINUED).frame
    original, most = generation.next_logits, []

    def scarce(model, cache, fed):
        if len(fed) > 1:
            raise torch.OutOfMemoryError("no more room")
        most.append(len(fed))
        return original(model, cache, fed)

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(generation, "next_logits", scarce)
        found = sl.sweep(gpt2, problems, direction(1), alphas=[-1.0, 1.0], positions="last", scorer=CONTINUED).frame
    assert set(most) == {1}
    assert found["prediction"].tolist() == expected["prediction"].tolist()


@torch.no_grad()
@pytest.mark.parametrize("positions", ["last", 0, -2, "all"])
def test_a_sweep_of_a_steered_model_equals_plain_runs(gpt2, positions):
    """Oracle: both directions as hooks on the whole model, each row alone."""
    rows = [tuple(tokens(n, seed=n).tolist()) for n in (5, 9, 7)]
    with sl.steer(gpt2, direction(0, 1), alpha=0.5, positions=positions):
        swept = sl.sweep(gpt2, choice(*rows), direction(1, 2), alphas=[0.0, 1.5], positions="last", scorer=LOGITS).frame
        for alpha in (0.0, 1.5):
            with sl.steer(gpt2, direction(1, 2), alpha=alpha, positions="last"):
                expected = [float(forward(gpt2, torch.tensor([row]))[0, -1, 7]) for row in rows]
            assert swept.loc[swept["alpha"] == alpha, "nll"].tolist() == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_a_steered_model_does_not_generate_in_a_sweep(gpt2):
    with hooks(gpt2, [(hook_name(gpt2, 0), lambda resid: None)]), pytest.raises(ValueError, match="the model has hooks on it"):
        sl.sweep(gpt2, choice(tuple(tokens(5).tolist())), direction(1), alphas=[1.0], scorer=CONTINUED)


@torch.no_grad()
def test_a_budget_holds_for_logits_too(gpt2):
    problems = choice(tuple(tokens(20).tolist()))

    def rows(model, problem):
        row = problem.meta["tokens"]
        return [TokenRow(row, 1, tuple(Read(at, (row[(at + 1) % 20],), log_prob=True) for at in range(20)))]

    every = Scorer("every", rows, lambda m, p, answers: Outcome("x", True, 0.0, -sum(read[0] for read in answers[0].reads)))
    whole, sizes, original = sl.evaluate(gpt2, problems, scorer=every).frame["nll"], [], reading.read_out

    def watched(model, resid, *args):
        sizes.append(len(resid))
        return original(model, resid, *args)

    budget = 20 * token_bytes(gpt2) * 2
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(reading, "read_out", watched)
        patching.setattr(reading, "READ_VALUES", 1)
        patching.setattr(memory, "LOGIT_BYTES", budget // 4 // (64 * 3))  # three rows of 64 logits
        thrifty = sl.evaluate(gpt2, problems, scorer=every, memory=budget).frame["nll"]
    assert max(sizes) == 3
    assert thrifty.tolist() == pytest.approx(whole.tolist(), abs=1e-4)
