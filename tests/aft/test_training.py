"""The loop itself, on losses and accuracies that are written down: when it stops, what it keeps, and that it needs no model."""

import math

import numpy as np
import pytest
import torch

from steerlab.aft.learnables import StaticVector
from steerlab.aft.training import Schedule, TrainingRun, train
from steerlab.models.model import Site

GOAL = torch.tensor([1.0, -2.0, 3.0])
ONE = [TrainingRun((Site(0),), lr=0.1)]


class Distance:
    """The squared distance of a vector from a goal, the same for each of four problems; from some call on it is what is told."""

    def __init__(self, size=4, breaks_at=math.inf, scale=1.0):
        self.size, self.calls, self._breaks_at, self._scale = size, 0, breaks_at, scale

    def losses(self, pairs, parameters):
        self.calls += 1
        losses = torch.stack([(parameters[c]["vector"] - GOAL).square().sum() * self._scale for c, _ in pairs])
        yield list(range(len(pairs))), losses * (math.nan if self.calls >= self._breaks_at else 1.0)


def scripted(*accuracies):
    """A validator that gives one accuracy after the other."""
    told = iter(accuracies)
    return lambda parameters: dict.fromkeys(parameters, (next(told), 1.0))


def test_training_stops_when_validation_falls_by_more_than_two_points_and_keeps_its_best_epoch():
    accuracies = (0.5, 0.6, 0.59, 0.6, 0.57, 0.9)
    (kept,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=6), validator=scripted(*accuracies))
    (shorter,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=2))
    assert kept.history["validation_accuracy"].to_list() == list(accuracies[:5])
    assert kept.epoch == 2  # the first of equals
    assert torch.equal(kept.parameters["vector"], shorter.parameters["vector"])
    assert kept.stopped == "validation accuracy 0.570 at epoch 5 is more than 0.02 below 0.600 at epoch 2"
    (patient,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=6, early_stopping=None), validator=scripted(*accuracies))
    assert (len(patient.history), patient.epoch) == (6, 6)


def test_training_goes_on_while_the_loss_still_falls():
    (found,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=2, extend=100))
    losses = found.history["loss"].to_numpy()
    assert 2 < len(losses) < 102
    falls = losses[1:] < 0.99 * losses[:-1]
    assert falls[1:-1].all()
    assert not falls[-1]
    assert "no longer fell by more than 1%" in found.stopped
    (longest,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=2, extend=3))
    assert longest.stopped == "all 5 epochs done, 3 of them because the loss still fell"


def test_a_loss_that_is_not_finite_stops_training_says_where_and_keeps_the_best_vector():
    objective = Distance(breaks_at=6)  # two steps an epoch
    (found,) = train(objective, StaticVector(3), ONE, Schedule(epochs=9, batch_size=2), validator=scripted(0.7, 0.6999))
    (first,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=1, batch_size=2))
    assert found.broke == 6
    assert found.stopped == "the loss or its gradient was not finite at step 6"
    assert (found.epoch, len(found.history)) == (1, 2)
    assert torch.equal(found.parameters["vector"], first.parameters["vector"])
    (early,) = train(Distance(breaks_at=2), StaticVector(3), ONE, Schedule(batch_size=2))
    assert (early.broke, early.epoch, len(early.history)) == (2, 0, 0)
    assert bool(early.parameters["vector"].isfinite().all())


def test_one_candidate_that_breaks_does_not_touch_the_others():
    class Second(Distance):
        def losses(self, pairs, parameters):
            for which, losses in super().losses(pairs, parameters):
                yield (
                    which,
                    torch.stack(
                        [loss * math.nan if pairs[j][0] == 1 and self.calls > 3 else loss for j, loss in zip(which, losses, strict=True)]
                    ),
                )

    candidates = [TrainingRun((Site(0),), lr=lr) for lr in (0.1, 0.2, 0.3)]
    found = train(Second(), StaticVector(3), candidates, Schedule(epochs=5))
    assert [one.broke for one in found] == [None, 4, None]
    for k in (0, 2):
        (alone,) = train(Distance(), StaticVector(3), [candidates[k]], Schedule(epochs=5))
        assert torch.equal(found[k].parameters["vector"], alone.parameters["vector"])


def test_a_penalty_pulls_towards_zero_and_a_cap_bounds_the_norm():
    for l2 in (0.0, 1.0):
        (found,) = train(Distance(), StaticVector(3), [TrainingRun((Site(0),), l2=l2, lr=0.1)], Schedule(epochs=200))
        assert found.parameters["vector"].numpy() == pytest.approx((GOAL / (1 + l2)).numpy(), abs=0.02)
    (capped,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=100, norm_cap=0.5))
    assert capped.history["norm"].max() <= 0.5 + 1e-6
    assert float(capped.parameters["vector"].norm()) == pytest.approx(0.5)


def test_accumulated_batches_are_one_larger_batch():
    made = [train(Distance(8), StaticVector(3), ONE, Schedule(batch_size=b, accumulation=a))[0] for b, a in ((2, 4), (8, 1))]
    assert torch.equal(made[0].parameters["vector"], made[1].parameters["vector"])


def test_each_seed_has_the_order_that_numpy_shuffles():
    seen = []

    class Noted(Distance):
        def losses(self, pairs, parameters):
            seen.extend(i for _, i in pairs)
            yield from super().losses(pairs, parameters)

    train(Noted(7), StaticVector(3), [TrainingRun((Site(0),), seed=5)], Schedule(epochs=2, batch_size=3))
    problems = list(range(7))
    np.random.seed(5)
    expected = []
    for _ in range(2):
        np.random.shuffle(problems)
        expected += problems
    assert seen == expected


def test_an_accuracy_that_lies_below_the_best_by_the_allowance_exactly_goes_on():
    told = (0.75, 0.5, 0.5, 0.25, 1.0)  # quarters, which are exact
    (found,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=5, early_stopping=0.25), validator=scripted(*told))
    assert found.history["validation_accuracy"].to_list() == list(told[:4])
    assert "0.250 at epoch 4 is more than 0.25 below 0.750 at epoch 1" in found.stopped


def test_an_equal_accuracy_is_no_improvement():
    (found,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=4, early_stopping=None), validator=scripted(0.5, 0.75, 0.75, 0.75))
    (two,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=2))
    assert found.epoch == 2
    assert torch.equal(found.parameters["vector"], two.parameters["vector"])


def test_a_loss_that_stays_the_same_does_not_fall():
    class Flat(Distance):
        def losses(self, pairs, parameters):
            moves = torch.stack([(v := parameters[c]["vector"].sum()) - v.detach() for c, _ in pairs])
            yield list(range(len(pairs))), moves  # 0 with a gradient

    (found,) = train(Flat(), StaticVector(3), ONE, Schedule(epochs=2, extend=20))
    assert len(found.history) == 2
    assert found.stopped == "the loss no longer fell by more than 1% at epoch 2"


def told_each(table):
    """A validator that gives each candidate its own (accuracy, nll) of each epoch."""
    epochs = iter(range(100))

    def validate(parameters):
        epoch = next(epochs)
        return {c: table[c][epoch] for c in parameters}

    return validate


def test_halving_ends_the_candidates_of_lower_accuracy_and_of_higher_nll_at_the_epoch_that_is_kept():
    table = {
        0: [(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)],  # ended first: the lowest accuracy
        1: [(0.75, 0.9), (0.75, 0.1), (0.75, 0.1)],  # keeps epoch 1, whose nll is higher than that of 2
        2: [(0.75, 0.5), (0.75, 0.8), (0.75, 0.8)],
    }
    candidates = [TrainingRun((Site(0),), seed=seed, lr=0.1) for seed in range(3)]
    schedule = Schedule(epochs=3, halve_every=1, early_stopping=None)
    found = train(Distance(), StaticVector(3), candidates, schedule, validator=told_each(table))
    assert [one.stopped for one in found] == [
        "in the worse half of 3 candidates on validation at epoch 1",
        "in the worse half of 2 candidates on validation at epoch 2",
        "all 3 epochs done",
    ]
    assert [one.epoch for one in found] == [1, 1, 1]


def test_a_penalty_counts_once_for_each_problem_of_a_step():
    """Oracle: the gradient of the sum over four problems of loss + l2 |v|^2, through Adam, by hand."""
    (found,) = train(Distance(), StaticVector(3), [TrainingRun((Site(0),), lr=0.1, l2=0.5)], Schedule(epochs=3, batch_size=4))
    vector = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([vector], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (4 * ((vector - GOAL).square().sum() + 0.5 * vector.square().sum())).backward()
        optimizer.step()
    assert found.parameters["vector"].flatten() == pytest.approx(vector.detach(), abs=1e-6)


def test_a_cap_holds_from_the_first_step_on():
    (found,) = train(Distance(), StaticVector(3), ONE, Schedule(epochs=1, batch_size=4, norm_cap=0.05))
    assert found.history["step"].to_list() == [1]
    assert float(found.parameters["vector"].norm()) <= 0.05 + 1e-6
