"""Side effects: exact against plain hooked runs, zero where nothing is steered, and in plain words what is refused."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.controls.side_effects import joined
from steerlab.models import hooked
from steerlab.models.batches import Batch, Read, TokenRow
from steerlab.models.model import hook_name
from steerlab.models.reading import Reader
from steerlab.steering import distributions, wavefront

TOKENS = [(3, 9, 27, 17), (5, 6, 7, 8, 9, 10, 11), (2, 4), (60, 1, 33, 20, 21, 22), (44,)]
ALPHAS = (-2.0, 0.0, 0.5, 3.0)
OPERATORS = {
    "add": lambda resid, v, alpha: resid + alpha * v,
    "ablate": lambda resid, v, alpha: resid - alpha * (resid @ v / (v @ v))[..., None] * v,
}


def direction(layer: int = 1, site: str = "resid_post", seed: int = 0, name: str = "mine", scale: float = 1.0) -> sl.Direction:
    return sl.Direction(scale * torch.randn(32, generator=torch.Generator().manual_seed(seed)), layer, site, name=name)


def plain(model, one: sl.Direction, alpha: float, operator: str = "add", positions: str = "all") -> pd.Series:
    """Oracle: each text alone, with a hook of TransformerLens, log-probabilities in NumPy."""
    kl, entropy, nll, changed, count, predicted = 0.0, 0.0, 0.0, 0, 0, 0
    for tokens in TOKENS:
        fed = torch.tensor([tokens])

        def act(resid, hook):
            moved = OPERATORS[operator](resid, one.vector.to(resid), alpha)
            if positions == "last":
                moved = torch.cat([resid[:, :-1], moved[:, -1:]], 1)
            return moved

        with torch.no_grad():
            before = model(fed)[0].double().log_softmax(-1).numpy()
            after = model.run_with_hooks(fed, fwd_hooks=[(hook_name(model, one.layer, one.site), act)])[0].double().log_softmax(-1).numpy()
        kl += (np.exp(before) * (before - after)).sum()
        entropy -= (np.exp(after) * after).sum()
        nll -= sum(after[i, token] for i, token in enumerate(tokens[1:]))
        changed += (before.argmax(-1) != after.argmax(-1)).sum()
        count, predicted = count + len(tokens), predicted + len(tokens) - 1
    return pd.Series(
        {"kl": kl / count, "perplexity": np.exp(nll / predicted), "entropy": entropy / count, "changed_predictions": changed / count}
    )


@pytest.fixture(scope="module", params=["llama-grouped", "gpt_neox"])
def model(request, tiny_model, backend):
    return tiny_model(request.param, backend)


@pytest.mark.parametrize("max_tokens", [None, 9])
def test_side_effects_are_those_of_plain_hooked_runs(model, max_tokens):
    directions = [
        direction(0),
        direction(2, seed=1, name="last"),
        direction(1, "resid_pre", seed=2, name="pre"),
        direction(1, seed=3, name="b"),
    ]
    found = sl.side_effects(model, directions, TOKENS, alphas=ALPHAS, max_tokens=max_tokens)
    assert len(found.frame) == len(directions) * len(ALPHAS)
    for one in directions:
        for alpha in ALPHAS:
            row = found.frame.query("direction == @one.name and alpha == @alpha").iloc[0]
            expected = plain(model, one, alpha)
            assert row["layer"] == one.layer
            for name in expected.index:
                assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), (one, alpha, name)
            base = plain(model, one, 0.0)
            assert row["perplexity_change"] == pytest.approx(expected["perplexity"] - base["perplexity"], rel=1e-3, abs=1e-4)
            assert row["entropy_change"] == pytest.approx(expected["entropy"] - base["entropy"], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("operator", "positions"), [("ablate", "all"), ("add", "last")])
def test_operators_and_positions_act_as_in_a_plain_run(model, operator, positions):
    one = direction(1)
    row = sl.side_effects(model, one, TOKENS, alphas=1.0, operator=operator, positions=positions).frame.iloc[0]
    expected = plain(model, one, 1.0, operator, positions)
    for name in expected.index:
        assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6)
    if positions == "last":
        assert row["perplexity_change"] == pytest.approx(0, abs=1e-4)  # nothing is predicted behind a text
        assert row["kl"] > 1e-4


def test_the_middle_of_a_block_can_be_steered(tiny_model, backend):
    model, one = tiny_model("llama-grouped", backend), direction(1, "resid_mid")
    row = sl.side_effects(model, one, TOKENS, alphas=1.0).frame.iloc[0]
    if backend == "hooked":
        expected = plain(model, one, 1.0)
        assert row["kl"] == pytest.approx(expected["kl"], rel=1e-4)
    else:  # a bridge's own hook there reaches the MLP alone, see steerlab.models.model.hooks
        with sl.steer(model, one, alpha=1.0), torch.no_grad():
            steered = [model(torch.tensor([tokens]))[0].double().log_softmax(-1) for tokens in TOKENS]
        with torch.no_grad():
            before = [model(torch.tensor([tokens]))[0].double().log_softmax(-1) for tokens in TOKENS]
        kl = sum(float((b.exp() * (b - s)).sum()) for b, s in zip(before, steered, strict=True)) / sum(map(len, TOKENS))
        assert row["kl"] == pytest.approx(kl, rel=1e-4)


def test_one_vector_a_position_acts_on_its_own_positions(tiny_model, backends):
    model = tiny_model("llama-grouped", backends[0])
    texts = [tokens for tokens in TOKENS if len(tokens) > 1]
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    one = sl.Direction(vectors, 1, positions=(0, -1))
    with sl.steer(model, one, alpha=1.5), torch.no_grad():
        steered = [model(torch.tensor([tokens]))[0].double().log_softmax(-1) for tokens in texts]
    with torch.no_grad():
        before = [model(torch.tensor([tokens]))[0].double().log_softmax(-1) for tokens in texts]
    kl = sum(float((b.exp() * (b - s)).sum()) for b, s in zip(before, steered, strict=True)) / sum(map(len, texts))
    assert sl.side_effects(model, one, texts, alphas=1.5).frame["kl"].iloc[0] == pytest.approx(kl, rel=1e-4)


def test_at_alpha_zero_every_change_is_exactly_zero(model):
    row = sl.side_effects(model, direction(), TOKENS, alphas=[0.0, 1.0]).frame.iloc[0]
    assert row["alpha"] == 0
    assert row[["kl", "perplexity_change", "entropy_change", "changed_predictions"]].tolist() == [0.0] * 4


def test_kl_is_never_negative_and_grows_from_nothing(model):
    alphas = [1e-8, 1e-6, 1e-4, 1e-2, 1.0]
    kl = sl.side_effects(model, direction(), TOKENS, alphas=alphas).frame["kl"].to_numpy()
    assert (kl >= 0).all()
    assert kl[3] > kl[2] > 0
    assert kl[3] / kl[2] == pytest.approx(1e4, rel=0.2)  # of second order in alpha


def test_how_logits_are_cut_up_does_not_matter(model, monkeypatch):
    cells = {"alphas": ALPHAS, "positions": "all"}
    directions = [direction(1, seed=k, name=f"d{k}") for k in range(3)]
    whole = sl.side_effects(model, directions, TOKENS, **cells).frame
    for limit in (1, 200, 1000):
        monkeypatch.setattr(distributions, "LOGITS", limit)
        pd.testing.assert_frame_equal(sl.side_effects(model, directions, TOKENS, **cells).frame, whole, rtol=1e-5, atol=1e-7)
    pd.testing.assert_frame_equal(sl.side_effects(model, directions, TOKENS, memory="1MB", **cells).frame, whole, rtol=1e-5, atol=1e-7)


def test_memory_that_runs_out_makes_passes_smaller(tiny_model, backends, monkeypatch):
    model = tiny_model("gpt2", backends[0])
    whole = sl.side_effects(model, direction(), TOKENS, alphas=ALPHAS).frame
    run = distributions._run

    def full(front, batch, cells, room, limit):
        if room > 10:
            raise torch.OutOfMemoryError("full")
        return run(front, batch, cells, room, limit)

    monkeypatch.setattr(distributions, "_run", full)
    pd.testing.assert_frame_equal(sl.side_effects(model, direction(), TOKENS, alphas=ALPHAS).frame, whole, rtol=1e-5, atol=1e-7)


def test_texts_are_read_by_the_models_tokenizer(toy_model, backend):
    model = toy_model(backend)
    texts = [problem.prompt for problem in sl.load_task("arithmetic", n_train=4, n_validation=0, n_test=0).train]
    as_text = sl.side_effects(model, direction(), texts, alphas=1.0)
    as_tokens = sl.side_effects(model, direction(), [model.to_tokens(text)[0].tolist() for text in texts], alphas=1.0)
    pd.testing.assert_frame_equal(as_text.frame, as_tokens.frame)
    assert as_text.perplexity == pytest.approx(np.exp(as_text.baseline["nll"].sum() / as_text.baseline["predicted"].sum()))
    with pytest.raises(ValueError, match=r"of the texts' .* tokens are unknown to this model's tokenizer"):
        sl.side_effects(model, direction(), alphas=1.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"texts": []}, ValueError, "0 texts given, none of them with a second token"),
        ({"texts": [(3,), (4,)]}, ValueError, "2 texts given, none of them with a second token"),
        ({"texts": [(3, 64)]}, ValueError, r"texts\[0\]: token 64; this model has tokens 0 to 63"),
        ({"texts": [(3, 4), ()]}, ValueError, r"texts\[1\]: 0 tokens; use 1 to 64"),
        ({"texts": [(3,) * 65]}, ValueError, r"texts\[0\]: 65 tokens; use 1 to 64, which is this model's context"),
        ({"texts": "one text"}, TypeError, "texts is one text; give a list of texts"),
        ({"alphas": []}, ValueError, r"alphas=\[\]; give at least one"),
        ({"alphas": float("nan")}, ValueError, "alpha=nan is not a finite number"),
        ({"layer": 3}, ValueError, "layer=3: this model has 3 layers"),
        ({"positions": "generated"}, ValueError, "positions='generated': nothing is generated behind a text"),
        ({"positions": 1}, ValueError, "position 1: a prompt has 1 tokens"),
        ({"operator": "flip"}, ValueError, "operator='flip'; use one of"),
        ({"alphas": 1e38}, ValueError, "mine at layer 1, alpha 1e"),
    ],
)
def test_bad_input_is_refused(tiny_model, backends, options, error, message):
    with pytest.raises(error, match=message):
        sl.side_effects(tiny_model("gpt2", backends[0]), direction(scale=10), **({"texts": TOKENS, "alphas": 1.0} | options))


def test_a_resumed_run_that_is_not_the_plain_one_is_an_error(tiny_model, backends, monkeypatch):
    run_from = wavefront.run_from
    monkeypatch.setattr(wavefront, "run_from", lambda *args, **options: run_from(*args, **options).flip(-1))
    with pytest.raises(RuntimeError, match=r"layer 1, alpha 1\.0: the resumed, batched run gives other scores than the plain hooked run"):
        sl.side_effects(tiny_model("gpt2", backends[0]), direction(), TOKENS, alphas=1.0)


def test_an_intervention_that_does_nothing_is_said_aloud(tiny_model, backends):
    found = sl.side_effects(tiny_model("gpt2", backends[0]), direction(), TOKENS, alphas=[0, 1e-30, 1.0])
    assert found.warnings() == ["Layer 1, mine: steering changed no distribution in 1 cells; it did not act on these texts."]
    assert sl.side_effects(tiny_model("gpt2", backends[0]), direction(), TOKENS, alphas=[0, 1.0]).warnings() == []
    backwards = sl.side_effects(tiny_model("gpt2", backends[0]), direction(), TOKENS, alphas=[0, -1e-30]).warnings()
    assert backwards == ["Layer 1, mine: steering changed no distribution in 1 cells; it did not act on these texts."]


# Against the effect on the task


@pytest.fixture(scope="module")
def measured(toy_model, backends):
    model, problems = toy_model(backends[0]), sl.load_task("arithmetic", n_train=12, n_validation=0, n_test=0).train
    control = sl.random_control(model, problems, direction(scale=1.5), alpha=1.0, n=5, rng=np.random.default_rng(0))
    texts = [problem.prompt for problem in problems[:4]]
    return control, sl.side_effects(model, [control.direction, *control.controls], texts, alphas=1.0)


@pytest.mark.parametrize("measure", ["accuracy", "margin"])
@pytest.mark.parametrize(("alternative", "better"), [("two-sided", abs), ("greater", lambda x: x), ("less", lambda x: -x)])
def test_controls_and_direction_stand_beside_their_kl(measured, measure, alternative, better):
    """Oracle: every line against every other."""
    control, effects = measured
    column = {"accuracy": "change", "margin": "margin_change"}[measure]
    table = effects.against(control.changes(), measure=measure, alternative=alternative)
    assert list(table.columns) == ["direction", "layer", "alpha", "is_control", "correct", "n", column, "kl", "dominant"]
    assert table["direction"].tolist() == control.changes()["direction"].tolist()
    kl = effects.frame.set_index("direction")["kl"]
    for i, row in table.iterrows():
        assert row["kl"] == kl[row["direction"]]
        others = [(better(o[column]), o["kl"]) for k, o in table.iterrows() if k != i]
        beaten = any(e >= better(row[column]) and c <= row["kl"] and (e, c) != (better(row[column]), row["kl"]) for e, c in others)
        assert row["dominant"] == (not beaten)


def test_a_sweep_is_matched_by_layer_and_alpha(tiny_model, backends):
    effects = sl.side_effects(tiny_model("gpt2", backends[0]), [direction(0), direction(1)], TOKENS, alphas=ALPHAS)
    table = effects.frame[["layer", "alpha", "direction"]].assign(change=0.1, margin_change=0.2).sample(frac=1, random_state=0)
    found = effects.against(table)
    merged = found.merge(effects.frame, on=["direction", "layer", "alpha"])
    assert (merged["kl_x"] == merged["kl_y"]).all()
    with pytest.raises(ValueError, match="several lines have one direction; give effects with the columns layer, direction, alpha"):
        effects.against(table.head(1)[["direction", "change"]])
    with pytest.raises(ValueError, match="side effects were not measured for 4 lines, layer 7"):
        effects.against(table[table["layer"] == 0].assign(layer=7))
    with pytest.raises(ValueError, match="effects: no column change; it has"):
        effects.against(table.drop(columns="change"))
    with pytest.raises(ValueError, match="measure='nll'; use one of accuracy, margin"):
        effects.against(table, measure="nll")
    with pytest.raises(ValueError, match="alternative='up'"):
        effects.against(table, alternative="up")


def test_changed_predictions_are_counted_problem_by_problem(toy_model, backends):
    """Oracle: a loop over the frame."""
    model, problems = toy_model(backends[0]), sl.load_task("arithmetic", n_train=12, n_validation=0, n_test=0).train
    swept = sl.sweep(model, problems, direction(scale=4), alphas=[0.0, 1.0, 2.0])
    before = dict(zip(swept.baseline.frame["problem_id"], swept.baseline.frame["prediction"], strict=True))
    table = sl.changed_predictions(swept)
    assert table["alpha"].tolist() == [0.0, 1.0, 2.0]
    for _, row in table.iterrows():
        cell = swept.frame[swept.frame["alpha"] == row["alpha"]]
        moved = sum(before[p] != now for p, now in zip(cell["problem_id"], cell["prediction"], strict=True))
        assert (row["n"], row["changed"], row["share"]) == (12, moved, moved / 12)
        assert (row["low"], row["high"]) == tuple(sl.statistics.wilson_interval(moved, 12))
    assert table["changed"].iloc[0] == 0
    assert table["changed"].max() > 0
    wide = sl.changed_predictions(swept, confidence=0.99).iloc[-1]
    assert (wide["low"], wide["high"]) == tuple(sl.statistics.wilson_interval(int(wide["changed"]), 12, confidence=0.99))


def test_changed_predictions_of_controls_keep_who_is_one(measured):
    table = sl.changed_predictions(measured[0])
    assert list(table.columns) == ["direction", "is_control", "n", "changed", "share", "low", "high"]
    assert table["is_control"].tolist() == [False] + [True] * 5


def test_a_result_shows_itself(measured):
    assert repr(measured[1]).startswith("SideEffects(6 cells x 4 texts, unsteered perplexity")
    evil = sl.SideEffects(measured[1].by_text.replace({"direction": {"mine": "<script>"}}), measured[1].baseline, (), {})
    assert "<script>" not in evil._repr_html_()
    speaks(evil)


def test_side_effects_of_several_runs_on_the_same_texts_join_and_those_on_others_do_not(toy_model):
    model, one, two = toy_model("bridge"), direction(name="one"), direction(seed=1, name="two")
    parts = [sl.side_effects(model, d, TOKENS, alphas=ALPHAS) for d in (one, two)]
    both = sl.side_effects(model, [one, two], TOKENS, alphas=ALPHAS)
    found = joined(parts)
    pd.testing.assert_frame_equal(
        found.frame.sort_values(["direction", "alpha"], ignore_index=True),
        both.frame.sort_values(["direction", "alpha"], ignore_index=True),
    )
    assert found.kl(two, 3.0) == pytest.approx(both.kl(two, 3.0))
    again = joined([*parts, parts[0]])  # what was measured twice counts once
    assert len(again.by_text) == len(found.by_text) == 2 * len(ALPHAS) * len(TOKENS)
    pd.testing.assert_frame_equal(again.frame, found.frame)
    assert found.kl(two, 3.0) > 0
    with pytest.raises(ValueError, match="alpha=9: 0 such cells were measured"):
        found.kl(two, 9.0)
    with pytest.raises(ValueError, match="other texts"):
        joined([parts[0], sl.side_effects(model, two, TOKENS[:2], alphas=ALPHAS)])
    with pytest.raises(ValueError, match="give at least one"):
        joined([])


def test_a_model_that_cannot_read_sentences_is_given_prompts_and_first_choices_where_there_are_none(toy_model):
    model = toy_model("bridge")
    problems = [sl.Problem("a", "1 + 2 =", " 3", (" 3", " 4")), sl.Problem("b", " ", "2 3", ("2 3", "3 2"))]
    texts, about = sl.side_texts(model, problems)
    assert texts == ["1 + 2 =", "2 3"]
    assert about.startswith("the prompts of 2 problems")
    assert sl.side_texts(model, problems, n=1) == (["1 + 2 ="], about.replace("2 problems", "1 problems"))
    with pytest.raises(ValueError, match="no problems given"):
        sl.side_texts(model, [])


def test_a_model_that_can_read_sentences_is_given_them(toy_model, monkeypatch):
    monkeypatch.setattr(sys.modules["steerlab.controls.side_effects"], "readable", lambda *_: True)
    texts, about = sl.side_texts(toy_model("bridge"), [])
    assert texts == list(sl.NEUTRAL_TEXTS)
    assert about == "24 everyday sentences"


# An output vocabulary that is smaller than the input's


@pytest.fixture(scope="module")
def narrow():
    """Takes tokens 0 to 63 and predicts 0 to 39, as models of modular arithmetic do."""
    if hooked.HookedTransformer is None:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    from transformer_lens import HookedTransformerConfig

    torch.manual_seed(0)
    sizes = {"n_layers": 2, "d_model": 32, "n_ctx": 16, "d_head": 8, "n_heads": 4, "d_vocab": 64, "d_vocab_out": 40}
    with hooked.no_deprecation():
        made = hooked.HookedTransformer(HookedTransformerConfig(**sizes, act_fn="gelu", init_weights=True, seed=0, device="cpu"))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def test_side_effects_of_a_model_that_predicts_fewer_tokens_than_it_takes_are_those_of_plain_runs(narrow):
    """Oracle: each text alone, with a hook of TransformerLens; the texts' tokens that cannot be predicted count for nothing in the perplexity."""
    texts, one = [(3, 9, 60, 17), (5, 41, 7), (63, 62), (1, 2, 3, 4, 5)], direction(0)
    found = sl.side_effects(narrow, one, texts, alphas=[0.0, 1.5]).frame.set_index("alpha")
    kl, nll, count, predicted = 0.0, 0.0, 0, 0
    for tokens in texts:
        fed = torch.tensor([tokens])
        with torch.no_grad():
            before = narrow(fed)[0].double().log_softmax(-1).numpy()
            hooked = [("blocks.0.hook_resid_post", lambda resid, hook: resid + 1.5 * one.vector)]
            after = narrow.run_with_hooks(fed, fwd_hooks=hooked)[0].double().log_softmax(-1).numpy()
        assert before.shape[-1] == 40
        kl += (np.exp(before) * (before - after)).sum()
        known = [(i, token) for i, token in enumerate(tokens[1:]) if token < 40]
        nll -= sum(after[i, token] for i, token in known)
        count, predicted = count + len(tokens), predicted + len(known)
    assert found.loc[1.5, "kl"] == pytest.approx(kl / count, abs=1e-6)
    assert found.loc[1.5, "perplexity"] == pytest.approx(np.exp(nll / predicted), rel=1e-5)
    assert found.loc[0.0, ["kl", "perplexity_change"]].tolist() == [0.0, 0.0]


def test_where_no_token_of_the_texts_can_be_predicted_there_is_no_perplexity_and_still_a_kl(narrow):
    found = sl.side_effects(narrow, direction(0), [(3, 60, 61)], alphas=[1.0])
    assert np.isnan(found.perplexity)
    assert found.frame["kl"].iloc[0] > 0


def test_an_answer_that_the_model_cannot_predict_is_named(narrow):
    """Through the reader that scoring, training and previews share."""
    for log_prob in (False, True):
        batch = Batch((0,), (TokenRow((1, 2, 3), 3, (Read(2, (5, 41), log_prob),)),), device="cpu")
        reader = Reader(batch)
        with pytest.raises(sl.InputError, match=r"token 41 is part of an answer, and this model predicts tokens 0 to 39 only"):
            list(reader.reads(((0,),), 0, 3).numbers(narrow, torch.zeros(1, 3, 32)))
