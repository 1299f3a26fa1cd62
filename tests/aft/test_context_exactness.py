"""Vectors that depend on the prompt act, score, generate and learn as they do in plain runs of the whole model.

Oracle: every row alone and unpadded through the whole model, with v(x) written out here from the unsteered stream of its prompt, and
autograd through all of it.
"""

import math

import numpy as np
import pytest
import torch
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import steerlab as sl
from steerlab.activations.positions import TokenPositions
from steerlab.aft.learnables import DictionaryVector, MLPVector, ModulatedVector
from steerlab.aft.objectives import AnswerLoss
from steerlab.models.batches import Read, TokenRow
from steerlab.models.model import Site, frozen, hook_name, hooks
from steerlab.models.passes import forward
from steerlab.steering.operators import OPERATORS
from steerlab.tasks.scorers import Outcome, Scorer

D, NEW = 32, 3
KINDS = (ModulatedVector, DictionaryVector, MLPVector)
quick = settings(max_examples=examples(15), derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def by_hand(learnable, p, stream, prompt_length):
    """v(x) of one row, ``[d_model]``, from the stream ``[pos d_model]``."""
    seen = stream[prompt_length - 1] if learnable.pooling == "last" else stream[:prompt_length].mean(0)
    x = seen / seen.square().mean().sqrt()
    if isinstance(learnable, ModulatedVector):
        return p["vector"] * (1 + torch.tanh(p["weight"] @ x / math.sqrt(D) + p["offset"]))
    hidden = torch.relu(p["weight_1"] @ x + p["offset_1"])
    if isinstance(learnable, MLPVector):
        return p["vector"] + p["weight_2"] @ hidden
    return torch.softmax(p["weight_2"] @ hidden + p["offset_2"], 0) @ p["dictionary"]


def made(kind, rng, pooling="mean"):
    """A learnable with small sizes, and parameters none of which is zero."""
    sizes = {DictionaryVector: {"entries": 3, "hidden": 5}, MLPVector: {"hidden": 5}}.get(kind, {})
    learnable = kind(D, pooling=pooling, **sizes)
    shapes = {name: value.shape for name, value in learnable.initial(rng).items()}
    return learnable, {name: torch.from_numpy(np.asarray(rng.standard_normal(tuple(shape)))).float() for name, shape in shapes.items()}


def stream_of(model, tokens, site):
    found = []
    with hooks(model, [(hook_name(model, *site), lambda resid: found.append(resid.detach().clone()))]), torch.no_grad():
        forward(model, torch.tensor([tokens]))
    return found[0][0]


def steered(model, row, site, vector, operator="add", positions="all", alpha=1.0, tokens=None):
    """Logits of one row in a plain hooked run."""
    tokens = row.tokens if tokens is None else tokens
    mask = TokenPositions.of(positions).mask([row.prompt_length], len(tokens))

    def act(resid):
        resid = resid.clone()
        new = OPERATORS[operator](resid, vector, torch.tensor(alpha))
        return new if mask is None else torch.where(mask[:, :, None], new, resid)

    with hooks(model, [(hook_name(model, *site), act)]):
        return forward(model, torch.tensor([tokens]))[0]


def target(model, problem):
    ids, prompt_length = problem.meta["ids"], problem.meta["prompt_length"]
    reads = tuple(Read(at, (ids[at + 1],), log_prob=True) for at in range(prompt_length - 1, len(ids) - 1))
    return TokenRow(tuple(ids[:-1]), prompt_length, reads)


def judge(model, problem, answers):
    return Outcome("", True, math.fsum(value for read in answers[0].reads for value in read), 0.0)


SCORED = Scorer("scored", lambda model, problem: [target(model, problem)], judge)
GENERATED = Scorer(
    "generated",
    lambda model, problem: [
        TokenRow(tuple(problem.meta["ids"][: problem.meta["prompt_length"]]), problem.meta["prompt_length"], new_tokens=NEW)
    ],
    lambda model, problem, answers: Outcome(" ".join(map(str, answers[0].generated)), True, 0.0, 0.0),
    generates=True,
)


def problems_of(rng, lengths, header, endings):
    """Rows that share a header, and some of them a prompt; of several lengths."""
    shared = rng.integers(0, 64, header).tolist()
    found = []
    for prompt, answer in lengths:
        begin = shared + rng.integers(0, 64, prompt).tolist()
        for _ in range(endings):
            meta = {"ids": begin + rng.integers(0, 64, answer).tolist(), "prompt_length": len(begin)}
            found.append(sl.Problem(f"p{len(found)}", str(len(found)), 0, meta=meta))
    return found


@st.composite
def works(draw):
    return {
        "family": draw(st.sampled_from(("gpt2", "llama-grouped", "gpt_neox"))),
        "kind": draw(st.sampled_from(KINDS)),
        "pooling": draw(st.sampled_from(("mean", "last"))),
        "site": Site(draw(st.integers(0, 2)), draw(st.sampled_from(("resid_pre", "resid_post")))),
        "lengths": draw(st.lists(st.tuples(st.integers(2, 7), st.integers(2, 3)), min_size=1, max_size=4)),
        "header": draw(st.sampled_from((0, 12))),
        "endings": draw(st.sampled_from((1, 2))),
        "positions": draw(st.sampled_from(("all", "last", "prompt", -1))),
        "operator": draw(st.sampled_from(("add", "rotate"))),
        "room": draw(st.sampled_from((None, 16))),
        "rng": np.random.default_rng(draw(st.integers(0, 99))),
    }


@quick
@given(work=works())
def test_losses_and_gradients_are_those_of_the_whole_model(work, backend, tiny_model):
    model, site, rng = tiny_model(work["family"], backend), work["site"], work["rng"]
    problems = problems_of(rng, work["lengths"], 0, 1)
    learnable, _ = made(work["kind"], rng, work["pooling"])
    leaves = [{n: p.requires_grad_() for n, p in made(work["kind"], rng, work["pooling"])[1].items()} for _ in range(work["endings"])]
    pairs = [(c, i) for c in range(len(leaves)) for i in range(len(problems))]
    options = {"operator": OPERATORS[work["operator"]], "positions": work["positions"], "max_tokens": work["room"]}
    with frozen(model):
        objective = AnswerLoss(model, problems, [(site,)] * len(leaves), learnable, target, **options)
        losses = torch.zeros(len(pairs))
        for which, found in objective.losses(pairs, dict(enumerate(leaves))):
            losses[which] = found
        expected = []
        for c, i in pairs:
            row = target(model, problems[i])
            vector = by_hand(learnable, leaves[c], stream_of(model, row.tokens, site), row.prompt_length)
            logits = steered(model, row, site, vector, work["operator"], work["positions"]).log_softmax(-1)
            expected.append(-sum(logits[read.position, read.tokens[0]] for read in row.reads))
        expected = torch.stack(expected)
        assert losses.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=2e-4, rel=1e-4)
        flat = [leaf for mine in leaves for leaf in mine.values()]
        ours, theirs = (torch.autograd.grad(one.sum(), flat, allow_unused=True) for one in (losses, expected))
    for one, other, leaf in zip(ours, theirs, flat, strict=True):
        zero = torch.zeros_like(leaf)
        assert torch.allclose(zero if one is None else one, zero if other is None else other, rtol=2e-3, atol=2e-4)


@quick
@given(work=works())
def test_a_sweep_is_the_plain_hooked_run_of_every_row(work, backend, tiny_model):
    model, site, rng = tiny_model(work["family"], backend), work["site"], work["rng"]
    problems = problems_of(rng, work["lengths"], work["header"], work["endings"])
    learnable, parameters = made(work["kind"], rng, work["pooling"])
    vector = sl.ContextVector(learnable, parameters, site.layer, site.site)
    on = vector.on(model, problems, scorer=SCORED)
    options = {"positions": work["positions"], "operator": work["operator"], "scorer": SCORED, "max_tokens": work["room"]}
    found = sl.sweep(model, problems, on, alphas=[-0.5, 2.0], **options).frame
    for alpha, group in found.groupby("alpha"):
        for problem, margin in zip(problems, group["margin"], strict=True):
            row = target(model, problem)
            mine = by_hand(learnable, parameters, stream_of(model, row.tokens, site), row.prompt_length)
            with torch.no_grad():
                logits = steered(model, row, site, mine, work["operator"], work["positions"], float(alpha)).log_softmax(-1)
            expected = sum(float(logits[read.position, read.tokens[0]]) for read in row.reads)
            assert margin == pytest.approx(expected, abs=5e-4, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_generated_answers_go_on_under_the_vector_of_their_prompt(kind, backend, tiny_model):
    model, rng, site = tiny_model("gpt2", backend), np.random.default_rng(3), Site(1)
    problems = problems_of(rng, [(3, 1), (5, 1), (5, 1)], 6, 1)
    learnable, parameters = made(kind, rng)
    vector = sl.ContextVector(learnable, parameters, 1)
    found = vector.evaluate(model, problems, alpha=1.5, scorer=GENERATED)
    for problem, prediction in zip(problems, found.frame["prediction"], strict=True):
        row = GENERATED.rows(model, problem)[0]
        mine, tokens = by_hand(learnable, parameters, stream_of(model, row.tokens, site), row.prompt_length), list(row.tokens)
        with torch.no_grad():
            for _ in range(NEW):
                tokens.append(int(steered(model, row, site, mine, alpha=1.5, tokens=tokens)[-1].argmax()))
        assert prediction == " ".join(map(str, tokens[row.prompt_length :]))


def test_vectors_of_each_position_act_at_theirs_and_go_on_behind_the_prompt(backend, tiny_model):
    model, rng = tiny_model("gpt2", backend), np.random.default_rng(4)
    problems = problems_of(rng, [(3, 2), (5, 3), (4, 2)], 9, 2)
    direction = sl.Direction(torch.from_numpy(rng.standard_normal(D)), layer=1)
    on = sl.propagated_vectors(model, problems, direction, start=0, steps=30, rate=0.9, towards="right", gate="similarity", scorer=SCORED)
    found = sl.sweep(model, problems, on, alphas=[1.0], scorer=SCORED).frame
    for problem, margin in zip(problems, found["margin"], strict=True):
        row = target(model, problem)
        stream, shares = stream_of(model, row.tokens, Site(1)), [1.0]
        for at in range(1, row.prompt_length):
            near = torch.nn.functional.cosine_similarity(stream[at], stream[at - 1], dim=0)
            shares.append(max(0.0, 0.9 * shares[-1] * float(near)))
        shares += [shares[-1]] * (len(row.tokens) - len(shares))
        with torch.no_grad():
            logits = steered(model, row, Site(1), torch.tensor(shares)[:, None] * direction.vector).log_softmax(-1)
        assert margin == pytest.approx(sum(float(logits[read.position, read.tokens[0]]) for read in row.reads), abs=5e-4, rel=1e-4)
