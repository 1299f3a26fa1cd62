"""The loop itself, on losses and accuracies that are written down: when it stops, what it keeps, and that it needs no model."""

import math

import numpy as np
import pytest
import torch

from steerlab.learnables import StaticVector
from steerlab.resumed import Spot
from steerlab.schedules import Candidate, Schedule
from steerlab.training import train

GOAL = torch.tensor([1.0, -2.0, 3.0])
ONE = [Candidate((Spot(0),), lr=0.1)]


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

    candidates = [Candidate((Spot(0),), lr=lr) for lr in (0.1, 0.2, 0.3)]
    found = train(Second(), StaticVector(3), candidates, Schedule(epochs=5))
    assert [one.broke for one in found] == [None, 4, None]
    for k in (0, 2):
        (alone,) = train(Distance(), StaticVector(3), [candidates[k]], Schedule(epochs=5))
        assert torch.equal(found[k].parameters["vector"], alone.parameters["vector"])


def test_a_penalty_pulls_towards_zero_and_a_cap_bounds_the_norm():
    for l2 in (0.0, 1.0):
        (found,) = train(Distance(), StaticVector(3), [Candidate((Spot(0),), l2=l2, lr=0.1)], Schedule(epochs=200))
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

    train(Noted(7), StaticVector(3), [Candidate((Spot(0),), seed=5)], Schedule(epochs=2, batch_size=3))
    problems = list(range(7))
    np.random.seed(5)
    expected = []
    for _ in range(2):
        np.random.shuffle(problems)
        expected += problems
    assert seen == expected
