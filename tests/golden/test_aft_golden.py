"""Learned vectors are those of a plain training loop.

Oracle: the sources' loop, written out on a Hugging Face model: a forward hook that adds the vector, one problem at a time, the whole model, full
logits, Adam after every few problems, ``np.random.shuffle`` of the list.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import steerlab as sl
from steerlab.models.batches import Read, TokenRow

SEED, LR = 4, 1e-2


def made_problems(n, answer_tokens=1):
    """Random tokens of random lengths; the problem carries them, because these models have no tokenizer."""
    rng = np.random.default_rng(0)
    problems = []
    for i in range(n):
        ids, answer = rng.integers(0, 64, size=rng.integers(3, 12)).tolist(), rng.integers(0, 64, size=answer_tokens).tolist()
        problems.append(sl.Problem(f"p{i}", f"prompt {i}", 0, meta={"ids": ids, "answer": answer}))
    return problems


def target(model, problem):
    """All tokens of the answer, each behind the ones before it."""
    ids, answer = problem.meta["ids"], problem.meta["answer"]
    reads = tuple(Read(len(ids) - 1 + k, (token,), log_prob=True) for k, token in enumerate(answer))
    return TokenRow((*ids, *answer[:-1]), len(ids), reads)


def plain_loop(folder, problems, layers, *, epochs, batch_size, scales=None, l2=0.0):
    """The sources' loop; gives the vector, the scales and the mean loss of each epoch."""
    hf = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for parameter in hf.parameters():
        parameter.requires_grad = False
    blocks = next(m for m in hf.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)
    vector = torch.nn.Parameter(torch.zeros(1, 1, 32))
    learned = [vector] if scales is None else [vector, torch.nn.Parameter(torch.tensor(scales))]

    def hook(k):
        def fn(module, args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            moved = hidden + (1.0 if scales is None else learned[1][k]) * vector.to(hidden.dtype)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return fn

    for k, layer in enumerate(layers):
        blocks[layer].register_forward_hook(hook(k))
    optimizer = torch.optim.Adam(learned, lr=LR)
    np.random.seed(SEED)
    train_set, history = list(problems), []
    for _ in range(epochs):
        np.random.shuffle(train_set)
        total = 0.0
        for i, problem in enumerate(train_set):
            ids, answer = problem.meta["ids"], problem.meta["answer"]
            logits = hf(input_ids=torch.tensor([ids + answer[:-1]])).logits[0, len(ids) - 1 :]
            cross_entropy = torch.nn.CrossEntropyLoss(reduction="sum")(logits, torch.tensor(answer))
            (cross_entropy + l2 * torch.norm(vector) ** 2 if l2 else cross_entropy).backward()
            total += cross_entropy.item()
            if (i + 1) % batch_size == 0:
                optimizer.step()
                optimizer.zero_grad()
        history.append(total / len(train_set))
    return vector.detach().flatten(), None if scales is None else learned[1].detach(), history


def agree(ours, theirs):
    """Far nearer than the cosine of 0.999 that would do."""
    assert float(torch.nn.functional.cosine_similarity(ours, theirs, dim=0)) > 0.9999
    assert float(ours.norm()) == pytest.approx(float(theirs.norm()), rel=1e-3)


@pytest.mark.parametrize(("family", "layer"), [("gpt2", 0), ("llama-grouped", 1), ("gpt_neox", 2), ("phi-2", 0)])
def test_one_layer_gives_the_vector_of_the_sources_loop(family, layer, backend, tiny_checkpoint, tiny_model):
    problems = made_problems(10)
    expected, _, losses = plain_loop(tiny_checkpoint(family), problems, [layer], epochs=3, batch_size=4)
    learned = sl.learn_vector(
        tiny_model(family, backend), problems, layer=layer, epochs=3, batch_size=4, lr=LR, seed=SEED, last_batch="carry", loss=target
    )
    agree(learned.vector, expected)
    assert learned.history["loss"].to_numpy() == pytest.approx(losses, rel=1e-4)
    assert learned.history["step"].to_list() == [2, 4, 6]  # 10 problems by 4: two are carried on each time


def test_a_step_a_problem_an_l2_penalty_and_answers_of_three_tokens_are_those_of_the_sources_loop(backend, tiny_checkpoint, tiny_model):
    problems = made_problems(6, answer_tokens=3)
    expected, _, _ = plain_loop(tiny_checkpoint("gpt2"), problems, [1], epochs=2, batch_size=1, l2=0.1)
    learned = sl.learn_vector(tiny_model("gpt2", backend), problems, layer=1, epochs=2, batch_size=1, lr=LR, seed=SEED, loss=target, l2=0.1)
    agree(learned.vector, expected)


def test_several_layers_give_vector_and_scales_of_the_sources_loop(backend, tiny_checkpoint, tiny_model):
    problems = made_problems(8)
    expected, scales, _ = plain_loop(tiny_checkpoint("llama"), problems, [0, 1, 2], epochs=3, batch_size=4, scales=[0.5, 1.0, 0.3])
    learned = sl.learn_multilayer(tiny_model("llama", backend), problems, epochs=3, batch_size=4, lr=LR, seed=SEED, loss=target)
    assert learned.layers == (0, 1, 2)
    agree(learned.vector, expected)
    assert learned.scales == pytest.approx(scales.tolist(), abs=1e-3)
