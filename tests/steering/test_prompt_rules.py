"""Vectors of prompts by rule, and refinement by rounds: worked by hand, or by plain runs of the whole model."""

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab.models.model import hook_name, hooks
from steerlab.models.passes import forward
from steerlab.steering.prompt_rules import propagate
from steerlab.tasks.scorers import encode_prompt

TASK = sl.load_task("arithmetic", n_train=16, n_validation=8, n_test=6)


@pytest.fixture(scope="module")
def direction():
    return sl.Direction(torch.from_numpy(np.random.default_rng(0).standard_normal(32)), layer=1, name="some")


def shares(model, direction, **options):
    """How much of the direction acts at each position of the first prompt."""
    on = sl.propagated_vectors(model, TASK.test, direction, **options)
    vectors = on.table[tuple(encode_prompt(model, TASK.test[0]))]
    return (vectors @ direction.vector / direction.norm**2).tolist()


# Oracle: the rule's closed form, rate to the power of the distance, as far as the steps go.
@pytest.mark.parametrize(("towards", "hears"), [("right", lambda d: d >= 0), ("left", lambda d: d <= 0), ("both", lambda d: True)])
def test_spreading_falls_off_with_the_distance_as_far_as_its_steps_go(toy_model, backends, direction, towards, hears):
    found = shares(toy_model(backends[0]), direction, start=4, steps=3, rate=0.5, towards=towards)
    expected = [0.5 ** abs(i - 4) if abs(i - 4) <= 3 and hears(i - 4) else 0.0 for i in range(len(found))]
    assert found == pytest.approx(expected, abs=1e-6)


def test_diffusion_worked_by_hand(toy_model, backends, direction):
    options = {"start": 1, "steps": 2, "rate": 0.5, "rule": "diffuse", "towards": "both"}
    # 0 1 0 0 0 -> .5 .5 .25 0 0 -> (.25 + .25), (.25 + (.5 + .25) / 4), (.125 + .5 / 4), .25 / 4, 0; an end has one neighbour
    assert shares(toy_model(backends[0]), direction, **options)[:5] == pytest.approx([0.5, 0.4375, 0.25, 0.0625, 0.0], abs=1e-6)


def test_without_steps_it_acts_where_it_starts_and_everywhere_it_is_the_direction(toy_model, backend, direction):
    model = toy_model(backend)
    last = sl.propagated_vectors(model, TASK.test, direction, steps=0)
    for one, positions in ((last, "last"), (sl.propagated_vectors(model, TASK.test, direction, start="all", rule="diffuse"), "all")):
        found = sl.sweep(model, TASK.test, one, alphas=[2.0]).frame["margin"]
        expected = sl.sweep(model, TASK.test, direction, alphas=[2.0], positions=positions).frame["margin"]
        assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)


@pytest.mark.parametrize("rule", [lambda own, left, right: torch.fmax(own, torch.fmax(left, right)), "spread", "diffuse"])
def test_padding_neither_gives_nor_takes(rule):
    from steerlab.steering.prompt_rules import _update

    update = _update(rule, 0.5, "both")
    start = torch.tensor([[0.0, 0.3, 1.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True, False, False]])
    padded = propagate(start, mask, torch.ones(1, 4), 4, update)
    assert torch.equal(padded[:, :3], propagate(start[:, :3], mask[:, :3], torch.ones(1, 2), 4, update))
    assert not padded[:, 3:].any()


@pytest.mark.parametrize("feedback", ["difference", "state"])
def test_the_last_of_three_passes_hears_what_the_second_did(toy_model, backend, direction, feedback):
    model = toy_model(backend)
    on = sl.recursive_vectors(model, TASK.test, direction, alpha=1.5, passes=3, mix=0.7, feedback=feedback)
    tokens = encode_prompt(model, TASK.test[2])

    def pooled(vector):
        found = []
        act = (hook_name(model, 1), lambda resid: resid + 1.5 * vector)
        with hooks(model, [act, (hook_name(model, 2), lambda resid: found.append(resid.detach().clone()))]), torch.no_grad():
            forward(model, torch.tensor([tokens]))
        return found[0][0].mean(0)

    vector = direction.vector
    for _ in range(2):
        heard = pooled(vector) - (pooled(torch.zeros(32)) if feedback == "difference" else 0)
        vector = direction.vector + 0.7 * direction.norm * heard / heard.norm()
    assert torch.allclose(on.table[tuple(tokens)], vector, atol=1e-4)
    assert np.isfinite(sl.sweep(model, TASK.test, on, alphas=[1.5]).frame["margin"]).all()


def test_no_feedback_is_the_direction_itself(toy_model, backends, direction):
    on = sl.recursive_vectors(toy_model(backends[0]), TASK.test, direction, mix=0.0)
    assert all(torch.equal(vector, direction.vector) for vector in on.table.values())


def test_rounds_train_on_what_is_still_wrong_and_go_on_from_where_they_were(toy_model, backends):
    model, options = toy_model(backends[0]), {"layer": 1, "epochs": 1, "lr": 0.05, "batch_size": 2}
    refined = sl.self_refine(model, TASK.train, rounds=3, **options)
    first = sl.learn_vector(model, TASK.train, **options)
    assert torch.equal(refined.vectors[0].vector, first.vector)
    frame = refined.frame
    assert frame["n_trained"].tolist() == [16, *frame["wrong"].tolist()[: len(frame) - 1]]
    assert refined.vector is refined.vectors[-1]
    for line, vector in zip(frame.to_dict("records"), refined.vectors, strict=True):
        with sl.steer(model, vector):
            assert sl.evaluate(model, TASK.train).accuracy == pytest.approx(line["train_accuracy"])
    # The second round's vector is the first one and a correction, learned from zero under it on what was wrong.
    with sl.steer(model, first):
        wrong = [p for p, right in zip(TASK.train, sl.evaluate(model, TASK.train).frame["correct"], strict=True) if not right]
    correction = sl.learn_vector(model, wrong, operator=lambda resid, vector, alpha: resid + alpha * (first.vector + vector), **options)
    assert torch.allclose(refined.vectors[1].vector, first.vector + correction.vector, atol=1e-4)


def test_a_round_that_breaks_off_is_the_last_and_is_not_chosen(toy_model, backends):
    """The operator is harmless as long as the vector is short, as it is in the first round."""

    def fuse(resid, vector, alpha):
        return resid + alpha * vector * (float("nan") if float(vector.detach().abs().max()) > 0.025 else 1.0)

    options = {"layer": 1, "validation": TASK.validation, "rounds": 4, "epochs": 1, "lr": 0.01, "batch_size": 8, "operator": fuse}
    refined = sl.self_refine(toy_model(backends[0]), TASK.train, **options)
    broken = refined.frame["validation_accuracy"].isna()
    assert "not finite" in refined.stopped
    assert not refined.frame.loc[broken, "chosen"].any()
    assert refined.frame["chosen"].sum() == 1


def test_the_round_is_chosen_on_validation_and_there_is_none_without_failures(toy_model, backends):
    model = toy_model(backends[0])
    refined = sl.self_refine(model, TASK.train, layer=1, validation=TASK.validation, rounds=2, epochs=1, lr=0.05)
    best = refined.frame["validation_accuracy"].idxmax()
    assert refined.frame["chosen"].tolist() == [i == best for i in refined.frame.index]
    with sl.steer(model, refined.vector):
        assert sl.evaluate(model, TASK.validation).accuracy == refined.frame["validation_accuracy"][best]
    few = sl.self_refine(model, TASK.train, layer=1, rounds=5, epochs=1, batch_size=16)
    assert len(few.frame) == 1
    assert "fewer than a step takes (16)" in few.stopped


def test_bad_input_is_refused_with_the_fix(toy_model, backends, direction):
    model = toy_model(backends[0])
    per_position = sl.Direction(torch.ones(2, 32), layer=1, positions=(0, 1))
    for act, message in (
        (lambda: sl.recursive_vectors(model, TASK.test, direction, passes=1), "from 2 up"),
        (lambda: sl.recursive_vectors(model, TASK.test, direction, read=0), "read at 1 or above"),
        (lambda: sl.recursive_vectors(model, TASK.test, direction, feedback="both"), "difference, state"),
        (lambda: sl.recursive_vectors(model, TASK.test, per_position), "give a direction of one"),
        (lambda: sl.propagated_vectors(model, TASK.test, direction, rate=1.5), "from 0 to 1"),
        (lambda: sl.propagated_vectors(model, TASK.test, direction, rule="life"), "use spread, diffuse"),
        (lambda: sl.propagated_vectors(model, TASK.test, direction, towards="up"), "left, right, both"),
        (lambda: sl.propagated_vectors(model, TASK.test, direction, steps=-1), "from 0 up"),
        (lambda: sl.propagated_vectors(model, TASK.test, direction, gate="or"), "none, similarity"),
        (lambda: sl.self_refine(model, TASK.train, layer=1, rounds=0), "from 1 up"),
        (lambda: sl.self_refine(model, TASK.train, layer=1, validation=TASK.train), "are training problems"),
    ):
        with pytest.raises(ValueError, match=message):
            act()
