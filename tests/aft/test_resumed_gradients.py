"""Losses on kept streams, and their gradients, are those of the whole model run on every row alone.

Oracle: each row alone and unpadded through the whole model, with the operator on the hook points, and autograd through all of it.
"""

import numpy as np
import pytest
import torch
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import steerlab as sl
from steerlab.activations.positions import TokenPositions
from steerlab.aft.learnables import StaticVector
from steerlab.aft.objectives import AnswerLoss
from steerlab.models.batches import Read, TokenRow
from steerlab.models.model import Site, frozen, hook_name, hooks
from steerlab.models.passes import forward
from steerlab.steering.operators import OPERATORS

SEQUENTIAL, PARALLEL = ("gpt2", "llama-grouped", "mistral-sliding"), ("gpt_neox", "phi-2")


def target(model, problem):
    """The row that the problem carries."""
    ids, prompt_length = problem.meta["ids"], problem.meta["prompt_length"]
    reads = tuple(Read(at, (ids[at + 1],), log_prob=True) for at in range(prompt_length - 1, len(ids) - 1))
    return TokenRow(tuple(ids[:-1]), prompt_length, reads)


@st.composite
def works(draw):
    """A model, problems of several lengths, candidates at one or two places each, and how they act."""
    family = draw(st.sampled_from(SEQUENTIAL + PARALLEL))
    names = ("resid_pre", "resid_mid", "resid_post") if family in SEQUENTIAL else ("resid_pre", "resid_post")
    sites = st.builds(Site, st.integers(0, 2), st.sampled_from(names))
    n = draw(st.integers(1, 2))
    paths = draw(st.lists(st.lists(sites, min_size=n, max_size=n, unique=True).map(tuple), min_size=1, max_size=3))
    lengths = draw(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 3)), min_size=1, max_size=4))
    positions = draw(st.sampled_from(("all", "last", "prompt", -1, (0, -2))))
    operator = draw(st.sampled_from(list(OPERATORS)))
    room = draw(st.sampled_from((None, 8)))
    return family, paths, lengths, positions, operator, room, draw(st.integers(0, 99)), draw(st.booleans())


def plainly(model, row, path, scales, vector, operator, positions):
    """The loss of one row, through the whole model."""
    mask = TokenPositions.of(positions).mask([row.prompt_length], len(row.tokens))

    def act(scale):
        def fn(resid):
            resid = resid.clone()  # a bridge writes over what it is given at resid_mid
            steered = OPERATORS[operator](resid, scale * vector, torch.tensor(1.0))
            return steered if mask is None else torch.where(mask[:, :, None], steered, resid)

        return fn

    placed = sorted(zip(path, scales, strict=True), key=lambda one: one[0].layer)
    with hooks(model, [(hook_name(model, *site), act(scale)) for site, scale in placed]):
        logits = forward(model, torch.tensor([row.tokens]))[0].log_softmax(-1)
    return -sum(logits[read.position, read.tokens[0]] for read in row.reads)


@settings(max_examples=examples(25), derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(work=works())
def test_losses_and_gradients_are_those_of_the_whole_model(work, backend, tiny_model):
    family, paths, lengths, positions, operator, room, seed, hooked = work
    model, rng = tiny_model(family, backend), np.random.default_rng(seed)
    problems = [
        sl.Problem(f"p{i}", "", 0, meta={"ids": rng.integers(0, 64, prompt + answer).tolist(), "prompt_length": prompt})
        for i, (prompt, answer) in enumerate(lengths)
    ]
    scales = (0.7, -1.3)[: len(paths[0])]
    learnable = StaticVector(32, scales)
    leaves = [torch.from_numpy(rng.standard_normal(32)).float().requires_grad_() for _ in paths]
    pairs = [(c, i) for c in range(len(paths)) for i in range(len(problems)) if rng.random() < 0.8] or [(0, 0)]
    outside = [(hook_name(model, 0, "resid_post"), lambda resid: resid * 1.1)] if hooked else []
    with frozen(model), hooks(model, outside):
        objective = AnswerLoss(
            model, problems, paths, learnable, target, operator=OPERATORS[operator], positions=positions, max_tokens=room
        )
        losses = torch.zeros(len(pairs))
        for which, found in objective.losses(pairs, {c: {"vector": leaf} for c, leaf in enumerate(leaves)}):
            losses[which] = found
        expected = torch.stack(
            [plainly(model, target(model, problems[i]), paths[c], scales, leaves[c], operator, positions) for c, i in pairs]
        )
        assert losses.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-4)
        ours = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        theirs = torch.autograd.grad(expected.sum(), leaves, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        zero = torch.zeros(32)
        assert torch.allclose(zero if one is None else one, zero if other is None else other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("memory", [None, 200_000])
def test_streams_that_are_not_kept_are_found_again(memory, backend, tiny_model):
    model, rng = tiny_model("gpt2", backend), np.random.default_rng(1)
    problems = [sl.Problem(f"p{i}", "", 0, meta={"ids": rng.integers(0, 64, 30).tolist(), "prompt_length": 29 - i % 3}) for i in range(40)]
    learned = sl.learn_vectors(model, problems, layers=[0, 1], epochs=1, loss=target, memory=memory)
    kept = sl.learn_vectors(model, problems, layers=[0, 1], epochs=1, loss=target)
    for one, other in zip(learned, kept, strict=True):
        assert torch.allclose(one.vector, other.vector, rtol=1e-3, atol=1e-5)
