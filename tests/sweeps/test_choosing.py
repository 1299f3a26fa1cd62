"""Choosing a cell without the whole grid, and previews from gradients, against the sweeps that they stand for."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.models.model import hook_name, hooks
from steerlab.sweeps import choosing

ALPHAS = (-2.0, -1.0, 0.0, 1.0, 2.0)


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def problems():
    return sl.load_task("arithmetic", n_train=40, n_validation=0, n_test=0).train


def direction(layer: int, size: float = 6.0, name: str = "direction", site: str = "resid_post") -> sl.Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(layer))
    return sl.Direction(vector / vector.norm() * size, layer, site, name=name)


# Successive halving


@pytest.fixture(scope="module")
def directions():
    return {layer: direction(layer) for layer in range(3)}


@pytest.fixture(scope="module")
def halved(toy, problems, directions):
    return sl.successive_halving(toy, problems, directions, alphas=ALPHAS, rng=np.random.default_rng(0))


def test_what_is_left_was_measured_on_all_problems_as_a_sweep_measures_it(toy, problems, directions, halved):
    full = sl.sweep(toy, problems, directions, alphas=ALPHAS)
    last = halved.frame[halved.frame["round"] == halved.frame["round"].max()]
    assert (last["n"] == len(problems)).all()
    both = last.merge(full.accuracy(), on=["layer", "direction", "alpha"], suffixes=("", "_full"))
    assert len(both) == len(last)
    np.testing.assert_allclose(both["accuracy"], both["accuracy_full"], atol=1e-12)
    np.testing.assert_allclose(both["change"], both["change_full"], atol=1e-12)
    np.testing.assert_allclose(both["margin_change"], both["margin_change_full"], atol=1e-4)
    assert halved.best["accuracy"] == last["accuracy"].max()


def test_the_evaluations_are_those_that_the_model_ran(toy, problems, directions):
    """Oracle: rows that leave the first block, which every unsteered row passes, and cells' rows as the frame tells them."""
    unsteered = []
    with hooks(toy, [(hook_name(toy, 0, "resid_post"), lambda resid: unsteered.append(len(resid)))]):
        found = sl.successive_halving(toy, problems, {2: directions[2]}, alphas=ALPHAS, rng=np.random.default_rng(0))
    sizes = found.frame.groupby("round").agg(cells=("alpha", "size"), n=("n", "first"))
    new = sizes["n"].diff().fillna(sizes["n"])
    checked = int(sizes["cells"].clip(upper=2).sum())  # plain runs that guard the fast path, of the first and the last cell of each round
    assert found.evaluations == int((sizes["cells"] * new).sum()) + sum(unsteered) - checked
    assert found.full_evaluations == len(problems) * len(ALPHAS)


def test_rounds_drop_more_than_half_of_the_cells(halved):
    assert halved.frame.groupby("round").size().tolist() == [12, 5, 2, 1]
    assert halved.frame.groupby("round")["n"].first().tolist() == [5, 10, 20, 40]
    assert halved.evaluations < halved.full_evaluations
    assert "evaluations)" in repr(halved)
    speaks(halved)


def test_the_same_seed_gives_the_same_choice(toy, problems, directions, halved):
    again = sl.successive_halving(toy, problems, directions, alphas=ALPHAS, rng=np.random.default_rng(0))
    pd.testing.assert_frame_equal(again.frame, halved.frame)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_on_the_embedded_model_the_choice_is_the_full_grids_at_a_third_of_its_work(seed):
    model, task = sl.load_model(device="cpu"), sl.load_task("arithmetic")
    found = sl.contrast_directions(model, sl.evaluate(model, task.train), rng=np.random.default_rng(0))
    best = sl.sweep(model, task.validation, found).best()
    halved = sl.successive_halving(model, task.validation, found, rng=np.random.default_rng(seed))
    assert (halved.best["layer"], halved.best["alpha"]) == (best["layer"], best["alpha"])
    assert halved.evaluations <= halved.full_evaluations / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": 0.0}, "0 is the baseline"),
        ({"rounds": 0}, "rounds=0: 40 problems allow 1 to 6 rounds"),
        ({"rounds": 9}, "rounds=9: 40 problems allow 1 to 6 rounds"),
        ({"layer": 7}, "leave layer out"),
    ],
)
def test_bad_input_of_halving_is_named(toy, problems, directions, options, message):
    with pytest.raises(ValueError, match=message):
        sl.successive_halving(toy, problems, directions, **({"rng": np.random.default_rng(0)} | options))


# Successive halving on outcomes that are written down: no model runs, so that rounds can be followed by hand


class Scripted:
    """Stands for the model: problem ``p<i>`` has the unsteered margin `margins[i]`; a cell at alpha solves the first `alpha` of ten."""

    def __init__(self, monkeypatch, margins):
        self.margins, self.rounds = margins, []
        monkeypatch.setattr(choosing, "evaluate", lambda model, problems, **how: SimpleNamespace(frame=self.unsteered(problems)))
        monkeypatch.setattr(choosing, "run_interventions", self.run_interventions)

    def unsteered(self, problems):
        margins = [self.margins[int(p.id[1:])] for p in problems]
        return pd.DataFrame({"problem_id": [p.id for p in problems], "correct": [m > 0 for m in margins], "margin": margins})

    def outcome(self, alpha, problems):
        right = [int(p.id[1:]) % 10 < alpha for p in problems]
        return pd.DataFrame({"correct": right, "margin": [alpha + 0.1 * int(p.id[1:]) for p in problems]})

    def run_interventions(self, model, problems, cells, **how):
        self.rounds.append(([p.id for p in problems], [cell.alpha for cell in cells]))
        return SimpleNamespace(
            baseline=SimpleNamespace(frame=self.unsteered(problems)), frames=[self.outcome(cell.alpha, problems) for cell in cells]
        )

    def halve(self, alphas, seed=0, rounds=3):
        asked = [sl.Problem(f"p{i}", "?", " A", (" A", " B")) for i in range(len(self.margins))]
        rng = np.random.default_rng(seed)
        return sl.successive_halving(None, asked, direction(1), alphas=alphas, rng=rng, rounds=rounds), asked


MARGINS = [-9.0, 0.5, -0.1, 7.0, -8.0, 6.0, -0.3, 5.0, -5.5, 8.0, 4.0, -4.5]


def test_the_better_cells_of_a_round_go_on_and_the_worse_do_not(monkeypatch):
    """The alphas are the numbers of problems of ten that each cell solves."""
    scripted = Scripted(monkeypatch, [float(m) for m in np.linspace(-6, 6, 40)])
    found, _ = scripted.halve([3.0, 9.0, 1.0, 7.0, 5.0])
    assert [alphas for _, alphas in scripted.rounds] == [[3.0, 9.0, 1.0, 7.0, 5.0], [9.0, 7.0], [9.0]]
    kept = found.frame[found.frame["kept"]].groupby("round")["alpha"].apply(set).tolist()
    assert kept == [{9.0, 7.0}, {9.0}, {9.0}]
    assert found.best["alpha"] == 9.0
    assert found.best["n"] == 40


def test_problems_nearest_to_the_boundary_come_first_and_every_other_one_is_drawn(monkeypatch):
    nearest = [f"p{i}" for i in np.argsort(np.abs(MARGINS))]
    firsts = set()
    for seed in range(8):
        scripted = Scripted(monkeypatch, MARGINS)
        scripted.halve([1.0, 2.0, 3.0], seed=seed, rounds=2)
        (first, _), (second, _) = scripted.rounds
        assert sorted([*first, *second]) == sorted(nearest)  # each once
        assert first[0] == nearest[0]
        assert set(nearest[:3]) <= set(first)  # at least every other one of six
        firsts.add(frozenset(first))
    assert len(firsts) > 4  # the others are chance
    assert any(set(first) & set(nearest[-4:]) for first in firsts)  # and may lie anywhere


def test_a_round_is_compared_with_the_baseline_of_the_problems_it_was_measured_on(monkeypatch):
    """Oracle: means over the problems of the rounds so far, by hand."""
    scripted = Scripted(monkeypatch, MARGINS)
    found, _ = scripted.halve([2.0, 9.0, 4.0])
    seen = []
    for r, (ids, alphas) in enumerate(scripted.rounds, start=1):
        seen += ids
        problems = [sl.Problem(name, "?", " A", (" A", " B")) for name in seen]
        before = scripted.unsteered(problems)
        for alpha in alphas:
            line = found.frame[(found.frame["round"] == r) & (found.frame["alpha"] == alpha)].iloc[0]
            after = scripted.outcome(alpha, problems)
            assert line["n"] == len(seen)
            assert line["accuracy"] == pytest.approx(after["correct"].mean())
            assert line["change"] == pytest.approx(after["correct"].mean() - before["correct"].mean())
            assert line["margin_change"] == pytest.approx(after["margin"].mean() - before["margin"].mean())
    shares = found.frame["accuracy"] - found.frame["change"]
    assert shares.groupby(found.frame["round"]).first().nunique() > 1  # the baselines of the rounds differ


def test_alpha_0_is_no_candidate_of_halving(monkeypatch):
    scripted = Scripted(monkeypatch, MARGINS)
    found, _ = scripted.halve([0.0, 3.0, 5.0])
    assert scripted.rounds[0][1] == [3.0, 5.0]
    assert 0.0 not in set(found.frame["alpha"])
    assert found.full_evaluations == len(MARGINS) * 3


# Preview


@pytest.mark.parametrize(
    ("positions", "operator", "scorer"),
    [
        pytest.param(positions, operator, scorer, marks=[] if (i + j + k) % 3 == 0 else pytest.mark.slow)  # each pair at least once
        for i, positions in enumerate(["all", "last", "prompt", [0, -1]])
        for j, operator in enumerate(["add", "ablate", "rotate"])
        for k, scorer in enumerate(["choice", "continuation", "numeric"])
    ],
)
def test_slopes_are_the_derivative_of_the_steered_margin(toy, operator, positions, scorer):
    """Oracle: central differences of measured sweeps, at every layer and several sites."""
    form = "numeric" if scorer == "numeric" else "choice"
    asked = sl.load_task("arithmetic", form=form, n_train=6, n_validation=0, n_test=0).train
    here = [direction(0), direction(1, site="resid_mid"), direction(2, site="resid_pre"), direction(2, name="last")]
    options = {"operator": operator, "positions": positions, "scorer": scorer}
    step = 4e-3
    swept = sl.sweep(toy, asked, here, alphas=[-step, step], **options).frame
    both = swept.pivot_table(index=["layer", "direction", "problem_id"], columns="alpha", values="margin")
    measured = (both[step] - both[-step]) / (2 * step)
    predicted = sl.preview(toy, asked, here, **options).slopes.set_index(["layer", "direction", "problem_id"])["slope"]
    scale = float(measured.abs().max())
    np.testing.assert_allclose(predicted.loc[measured.index], measured, atol=0.02 * scale + 1e-3, rtol=0)


def test_one_direction_is_previewed_at_every_layer(toy, problems):
    table = sl.preview(toy, problems, direction(1), alphas=ALPHAS).frame
    assert list(table.columns) == ["layer", "direction", "alpha", "margin_change"]
    assert len(table) == 3 * len(ALPHAS)
    wide = table.pivot_table(index="layer", columns="alpha", values="margin_change")
    np.testing.assert_allclose(wide[2.0], 2 * wide[1.0])
    assert (wide[0.0] == 0).all()


def test_small_steps_correlate_with_what_is_measured(toy, problems):
    directions = {layer: direction(layer, 0.02) for layer in range(3)}
    swept = sl.sweep(toy, problems, directions, alphas=ALPHAS)
    found = sl.preview(toy, problems, directions, alphas=ALPHAS, sweep=swept)
    assert found.correlation.n == 12
    assert found.correlation.pearson > 0.99
    assert "with 12 measured cells" in repr(found)
    speaks(found)
    assert sl.preview(toy, problems, directions).correlation is None


def test_a_preview_leaves_the_model_as_it_was(toy, problems):
    wants = [parameter.requires_grad for parameter in toy.parameters()]
    sl.preview(toy, problems[:4], direction(0))
    assert [parameter.requires_grad for parameter in toy.parameters()] == wants
    assert not any(point.fwd_hooks for point in toy.hook_dict.values())
    assert all(parameter.grad is None for parameter in toy.parameters())


@pytest.mark.parametrize("max_tokens", [1, 60])
def test_the_size_of_a_pass_changes_no_slope(toy, problems, max_tokens):
    whole = sl.preview(toy, problems[:8], direction(1)).slopes
    parts = sl.preview(toy, problems[:8], direction(1), max_tokens=max_tokens).slopes
    pd.testing.assert_frame_equal(whole, parts, check_exact=False, atol=1e-5)


def test_bad_input_of_a_preview_is_named(toy, problems):
    swept = sl.sweep(toy, problems, direction(1), alphas=[1.0])
    for given, options, message in [
        ([], {}, "no directions given"),
        ([direction(1), direction(1)], {}, "two directions are called 'direction' at layer 1"),
        (direction(1), {"operator": "clamp"}, r"acts at alpha = 0 \(as clamp does\)"),
        ([direction(1)], {"sweep": swept, "positions": "last"}, "sweep: its positions is 'all', and the preview's is 'last'"),
        ([direction(2)], {"sweep": swept}, "sweep: it has none of the previewed layers and directions"),
        (direction(1), {"alphas": float("nan")}, "alpha=nan is not a finite number"),
        ({7: direction(1)}, {}, "layer=7: this model has 3 layers"),
    ]:
        with pytest.raises(ValueError, match=message):
            sl.preview(toy, problems, given, **options)
    with pytest.raises(ValueError, match="it measured 40 other problems than the 4 given"):
        sl.preview(toy, problems[:4], [direction(1)], sweep=swept)
