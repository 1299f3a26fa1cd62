"""Emergent Activation Snapping: the Watcher's arithmetic, the online run, and its comparison with baselines."""

import math

import numpy as np
import pandas as pd
import pytest
from results import speaks

import steerlab as sl
from steerlab.models.model import hook_name, hooks
from steerlab.plots.studies import eas_stream
from steerlab.steering import wavefront
from steerlab.studies.eas.comparison import Claim
from steerlab.studies.eas.watcher import VARIANTS, Watcher, Watching, random_attractors
from steerlab.tasks.arithmetic import arithmetic

LAYER = 1
N = 16


def stream(n=N, **options) -> list[sl.Problem]:
    return arithmetic(n_train=n, n_validation=0, n_test=0, **options).train


def plain_run(model, problems, start, watcher: Watcher) -> pd.DataFrame:
    """Oracle: the method written down again, with whole runs of the model under plain hooks and statistics over all that was seen."""
    attractors, seen, buffer, lines = start.copy(), [], [], []
    assigned = np.zeros(len(start))
    for problem in problems:
        found = []
        with hooks(model, [(hook_name(model, LAYER), lambda resid, found=found: found.append(resid.detach()))]):
            sl.evaluate(model, [problem])
        seen.append(found[0][0].double().mean(0).numpy())
        added, white = None, None
        if len(seen) > 1:
            v, sigma = seen[-1], np.std(seen, axis=0, ddof=1) + watcher.epsilon
            white = (v - np.mean(seen, axis=0)) / sigma
            cosines = attractors @ white / np.linalg.norm(white)
            best = attractors[cosines.argmax()] * (np.linalg.norm(white) if watcher.target == "matched" else 1)
            strength = watcher.strength * (1 - cosines.max()) if watcher.adaptive else watcher.strength
            nudge = strength * (best - white)
            if watcher.clamp is not None:
                nudge = np.minimum(np.maximum(nudge, -watcher.clamp), watcher.clamp)
            added = sigma * nudge if watcher.form == "corrected" else (white + nudge) - v
        act = [] if added is None else [(hook_name(model, LAYER), lambda resid, a=added: resid + resid.new_tensor(a))]
        with hooks(model, act):
            line = sl.evaluate(model, [problem]).frame.iloc[0]
        lines.append(line)
        if line["correct"] and white is not None:
            buffer.append(white / np.linalg.norm(white))
        if watcher.updates and len(buffer) == watcher.every:
            for point, k in [(point, (attractors @ point).argmax()) for point in buffer]:
                assigned[k] += 1
                attractors[k] = (1 - 1 / assigned[k]) * attractors[k] + point / assigned[k]
            attractors /= np.linalg.norm(attractors, axis=1, keepdims=True)
            buffer = []
    return pd.DataFrame(lines).reset_index(drop=True), attractors


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "no_watcher"])
def test_the_online_run_is_the_method_written_down_plainly(toy_model, backend, variant):
    model, watcher = toy_model(backend), Watcher(strength=0.8, clamp=0.4, attractors=3, every=2)
    found = sl.run_eas(model, stream(), layer=LAYER, rng=np.random.default_rng(5), watcher=watcher, variant=variant)
    expected, after = plain_run(model, stream(), found.before, VARIANTS[variant](watcher))
    assert found.frame["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(found.frame["margin"].astype(float), expected["margin"].astype(float), atol=1e-4)
    np.testing.assert_allclose(found.after, after, atol=1e-5)
    assert found.frame["nudge"].iloc[0] == 0
    assert (found.frame["nudge"].iloc[1:] > 0).all()


def test_without_a_watcher_the_outcomes_are_those_of_evaluate(toy_model, backend):
    model = toy_model(backend)
    found = sl.run_eas(model, stream(), layer=LAYER, rng=np.random.default_rng(0), variant="no_watcher")
    plain = sl.evaluate(model, stream()).frame
    assert found.frame["prediction"].tolist() == plain["prediction"].tolist()
    np.testing.assert_allclose(found.frame["margin"], plain["margin"], atol=1e-4)
    assert found.watcher is None
    assert (found.frame[["nudge", "moved", "updates"]] == 0).all(axis=None)


@pytest.mark.parametrize("form", [pytest.param("numeric", marks=pytest.mark.slow), "continuation"])
def test_answers_that_are_generated_or_scored_in_several_rows_are_nudged_as_a_plain_hooked_run_is(toy_model, backend, form):
    model, watcher = toy_model(backend), Watcher(strength=1.0, clamp=None, attractors=2)
    problems = stream(3, form=form)
    if form == "continuation":  # of several tokens, so that every choice is a row that shares the prompt
        problems = [sl.Problem(p.id, p.prompt, 0, (" A B", " C D now", " 3"), scorer="continuation") for p in problems]
    found = sl.run_eas(model, problems, layer=LAYER, rng=np.random.default_rng(1), watcher=watcher)
    expected, _ = plain_run(model, problems, found.before, watcher)
    assert found.frame["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(found.frame["margin"].astype(float), expected["margin"].astype(float), atol=1e-4)


def test_the_prompt_runs_to_the_watched_layer_once(toy_model):
    model = toy_model("bridge")
    calls = []
    counted = [(hook_name(model, layer, "resid_pre"), lambda resid, layer=layer: calls.append((layer, len(resid)))) for layer in range(3)]
    problems = stream(3)
    with hooks(model, counted):
        sl.compare_eas(model, problems, layer=LAYER, rng=np.random.default_rng(0))
    calls = calls[-3 * 1 :]
    assert calls == [(0, 1), (1, 1), (2, len(VARIANTS))]


def test_a_run_that_goes_on_wrongly_is_noticed_at_the_first_nudge(toy_model, monkeypatch):
    run_from = wavefront.run_from
    monkeypatch.setattr(wavefront, "run_from", lambda *args, **options: run_from(*args, **options) + 0.05)
    with pytest.raises(RuntimeError, match=r"layer 1, alpha 1.0: the resumed, batched run gives other scores than the plain hooked run"):
        sl.run_eas(toy_model("bridge"), stream(3), layer=LAYER, rng=np.random.default_rng(0))


def test_variants_side_by_side_are_the_variants_alone(toy_model, backend):
    model = toy_model(backend)
    together = sl.compare_eas(model, stream(12), layer=LAYER, rng=np.random.default_rng(3), repeats=1)
    for variant in ("watcher", "no_watcher", "literal"):
        alone = sl.run_eas(model, stream(12), layer=LAYER, rng=np.random.default_rng(3), variant=variant).frame
        mine = together.outcomes(variant)[alone.columns]
        pd.testing.assert_frame_equal(mine, alone, check_exact=False, atol=1e-4, rtol=1e-4)


def test_the_same_seed_gives_the_same_frame(toy_model, backend):
    model = toy_model(backend)
    runs = [sl.compare_eas(model, stream(8), layer=LAYER, rng=np.random.default_rng(3), repeats=2).frame for _ in range(2)]
    pd.testing.assert_frame_equal(*runs, check_exact=True)


def test_a_result_says_what_was_logged(toy_model):
    found = sl.run_eas(toy_model("bridge"), stream(), layer=LAYER, rng=np.random.default_rng(0))
    summary = found.summary().iloc[0]
    assert summary["n"] == N
    assert summary["accuracy"] == found.frame["correct"].mean() == found.accuracy
    assert summary["low"] <= summary["accuracy"] <= summary["high"]
    assert 0 <= summary["entropy"] <= math.log2(10)
    assert summary["nudged"] == (N - 1) / N
    moved = sorted(found.frame["moved"])[1:]  # the first problem was not nudged
    assert summary["moved"] == moved[len(moved) // 2]
    assert found.frame["updates"].iloc[-1] <= summary["updates"]
    assert summary["seconds"] > 0
    assert len(found.seconds) == N
    assert "EASResult('watcher', layer=1" in repr(found)
    looked = found.frame["correct"] & (found.frame["attractor"] >= 0)
    assert summary["updates"] == looked.sum() // found.watcher.every
    speaks(found)
    assert found.frame["wins"].tolist() == [0, *found.frame["correct"].cumsum()[:-1]]


# --- the Watcher, without a model -------------------------------------------------------------------------------------


def test_a_nudge_of_two_coordinates_worked_out_by_hand():
    """Seen (0, 0) then (2, 4): mean (1, 2), standard deviation (sqrt 2, sqrt 8), so v' = (1, 1) / sqrt 2, of norm 1."""
    watcher = Watching(Watcher(attractors=2, strength=0.5, clamp=None, epsilon=1e-12), np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert watcher.see(np.zeros(2)).added is None
    glance = watcher.see(np.array([2.0, 4.0]))
    half = math.sqrt(0.5)
    assert (glance.attractor, glance.similarity) == (0, pytest.approx(half))
    strength = 0.5 * (1 - half)
    assert glance.strength == pytest.approx(strength)
    np.testing.assert_allclose(glance.added, [math.sqrt(2) * strength * (1 - half), -math.sqrt(8) * strength * half])
    literal = Watching(Watcher(attractors=2, strength=0.5, clamp=None, epsilon=1e-12, form="literal"), watcher.attractors)
    literal.see(np.zeros(2))
    np.testing.assert_allclose(
        literal.see(np.array([2.0, 4.0])).added, [half + strength * (1 - half) - 2, half - strength * half - 4]
    )  # snapped minus raw


def test_the_clamp_holds_every_coordinate_back():
    watcher = Watching(Watcher(attractors=1, strength=5.0, clamp=0.1, adaptive=False, epsilon=1e-12), np.array([[1.0, 0.0]]))
    watcher.see(np.zeros(2))
    glance = watcher.see(np.array([2.0, 4.0]))
    np.testing.assert_allclose(np.abs(glance.added), 0.1 * np.array([math.sqrt(2), math.sqrt(8)]))
    assert glance.clamped == 1


def test_attractors_move_after_so_many_right_answers_and_wrong_ones_teach_nothing():
    rng = np.random.default_rng(0)
    watcher = Watching(Watcher(attractors=3, every=2), random_attractors(3, 4, rng=rng))
    before = watcher.attractors.copy()
    for correct in (True, False, True, False, True):  # the first vector of a stream has no direction, and is no win
        watcher.see(rng.standard_normal(4))
        watcher.learn(correct=correct)
        if watcher.wins < 2:
            np.testing.assert_array_equal(watcher.attractors, before)
    assert (watcher.wins, watcher.updates) == (2, 1)
    assert not np.allclose(watcher.attractors, before)
    np.testing.assert_allclose(np.linalg.norm(watcher.attractors, axis=1), 1)


def test_an_answer_to_a_prompt_that_has_no_direction_teaches_nothing():
    """The third vector is the mean of all three: what was seen before it is not learned a second time."""
    watcher = Watching(Watcher(attractors=1, every=2), np.array([[0.6, 0.8]]))
    for vector in ([0.0, 0.0], [2.0, 4.0], [1.0, 2.0]):
        added = watcher.see(np.array(vector)).added
        watcher.learn(correct=True)
    assert added is None
    assert (watcher.wins, watcher.updates) == (1, 0)


def test_the_cosine_of_a_nudge_is_with_the_nearest_attractor_and_the_clamp_counts_coordinates():
    """Seen (0, 0) then (2, 4): v' = (1, 1) / sqrt 2; halfway to (1, 0) it moves by ((1 - r) / 2, -r / 2) with r = sqrt 1/2."""
    r = math.sqrt(0.5)
    watcher = Watching(Watcher(attractors=1, strength=0.5, clamp=0.2, adaptive=False, epsilon=1e-12), np.array([[1.0, 0.0]]))
    watcher.see(np.zeros(2))
    glance = watcher.see(np.array([2.0, 4.0]))
    assert glance.clamped == 0.5
    assert glance.aligned == pytest.approx(((1 - r) / 2) / math.hypot((1 - r) / 2, 0.2))


def test_without_updates_attractors_stay():
    rng = np.random.default_rng(0)
    watcher = Watching(Watcher(attractors=3, every=1, updates=False), random_attractors(3, 4, rng=rng))
    before = watcher.attractors.copy()
    for _ in range(5):
        watcher.see(rng.standard_normal(4))
        watcher.learn(correct=True)
    np.testing.assert_array_equal(watcher.attractors, before)


def test_a_stream_that_never_varies_has_no_direction():
    watcher = Watching(Watcher(attractors=3), random_attractors(3, 4, rng=np.random.default_rng(0)))
    assert [watcher.see(np.ones(4)).added for _ in range(3)] == [None, None, None]


def test_entropy_is_that_of_the_attractors_use():
    watcher = Watching(Watcher(attractors=2), np.array([[1.0, 0.0], [-1.0, 0.0]]))
    entropies = [watcher.see(np.array([x, 0.0])).entropy for x in (0.0, 1.0, -1.0, 5.0, -5.0)]
    assert entropies == [0, 0, 1, pytest.approx(-(2 / 3) * math.log2(2 / 3) - math.log2(1 / 3) / 3), 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attractors": 0}, "attractors=0; use a whole number from 1"),
        ({"every": 2.5}, "every=2.5"),
        ({"strength": 0}, "strength=0; use a number above 0"),
        ({"clamp": -1.0}, "clamp=-1.0; use a number above 0, or None"),
        ({"clamp": float("nan")}, "clamp=nan"),
        ({"form": "wrong"}, "form='wrong'; use one of corrected, literal"),
        ({"target": "far"}, "target='far'; use one of unit, matched"),
    ],
)
def test_a_bad_setting_is_named_with_the_fix(options, message):
    with pytest.raises(ValueError, match=message):
        Watcher(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 9}, "layer=9: this model has 3 layers"),
        ({"variant": "none"}, "variant='none'; use one of watcher, no_watcher"),
        ({"problems": []}, "no problems given"),
        ({"problems": stream(2) * 2}, "appears 2 times"),
    ],
)
def test_a_bad_stream_is_named_before_anything_runs(toy_model, options, message):
    asked = {"problems": stream(3), "layer": LAYER, "rng": np.random.default_rng(0)} | options
    with pytest.raises(ValueError, match=message):
        sl.run_eas(toy_model("bridge"), asked.pop("problems"), **asked)


# --- the comparison ---------------------------------------------------------------------------------------------------


def compared(gain: int, n: int = 400) -> sl.EASComparison:
    """A comparison made by hand: the Watcher turns the first `gain` of every 10 wrong answers right."""
    place = np.arange(n)
    plain = place % 2 == 0
    watched = plain | (place % 20 // 2 < gain)
    frames = []
    for variant, correct in (("no_watcher", plain), ("watcher", watched), ("no_updates", plain)):
        wins = np.concatenate([[0], np.cumsum(correct)[:-1]])
        logged = {"nudge": 1.0, "moved": 0.1, "entropy": 1.0, "updates": wins // 5, "wins": wins}
        frames.append(pd.DataFrame({"variant": variant, "repeat": 0, "step": place, "correct": correct, **logged}))
    variants = ("no_watcher", "watcher", "no_updates")
    return sl.EASComparison(pd.concat(frames, ignore_index=True), Watcher(), 1, variants, 1, pd.Series(dtype=float), "choice")


@pytest.mark.parametrize(("gain", "verdict"), [(0, "did not hold"), (3, "undecided"), (9, "held")])
def test_the_claim_is_judged_by_its_interval(gain, verdict):
    claim = compared(gain).claim()
    assert claim.verdict == verdict
    assert claim.n < 400
    assert claim.low <= claim.change <= claim.high
    assert claim.over_random[0] == pytest.approx(claim.change)
    assert "points within 30 updates" in str(claim)
    assert claim.verdict in str(claim)


def test_a_stream_that_ends_too_early_tests_nothing():
    claim = compared(3, n=100).claim()
    assert isinstance(claim, Claim)
    assert claim.verdict == "not tested"
    assert "the stream has 0 problems after update 30" in str(claim)
    with pytest.raises(ValueError, match="give a longer stream"):
        compared(3, n=100).summary(window="after")


def test_the_table_pairs_every_variant_with_the_baseline():
    table = compared(3).summary().set_index("variant")
    assert table.loc["watcher", "change"] == pytest.approx(0.15)
    assert (table.loc["watcher", "became_right"], table.loc["watcher", "became_wrong"]) == (60, 0)
    assert math.isnan(table.loc["no_watcher", "p"])
    assert table.loc["watcher", "p"] == pytest.approx(2 * 0.5**60)
    assert table.loc["watcher", "p_holm"] == pytest.approx(4 * 0.5**60)
    assert table.loc["no_updates", "p_holm"] == 1
    late = compared(3).summary(window="after").set_index("variant")
    assert late.loc["watcher", "n"] + compared(3).summary(window="before").set_index("variant").loc["watcher", "n"] == 400


def test_a_comparison_measures_latency_where_asked(toy_model):
    found = sl.compare_eas(toy_model("bridge"), stream(6), layer=LAYER, rng=np.random.default_rng(0), variants=["no_clamp"], timed=3)
    assert found.variants == ("no_watcher", "no_clamp")
    assert (found.latency > 0).all()
    assert list(found.latency.index) == ["no_watcher", "no_clamp"]
    speaks(found)
    with pytest.raises(ValueError, match="variant='watcher' was not run"):
        found.claim()
    with pytest.raises(ValueError, match="repeat=3: there are 1"):
        found.outcomes("no_clamp", 3)


def test_a_figure_draws_every_variant_along_the_stream():
    figure = eas_stream(compared(3))
    assert [trace.name for trace in figure.data] == ["watcher", "no updates"]
    assert figure.data[0].y[-1] == 60
    assert eas_stream(compared(3), "entropy").data[0].y[-1] == 1
    assert eas_stream(compared(3), "moved").data[0].y[-1] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="measure='speed'"):
        eas_stream(compared(3), "speed")
    with pytest.raises(TypeError, match="expected an EASComparison"):
        eas_stream(pd.DataFrame())
