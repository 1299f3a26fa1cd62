"""Critical tokens: exact against plain hooked runs, and summed as said."""

import numpy as np
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.models.encoding import token_ids
from steerlab.models.model import hook_name

WORDS = [
    sl.Problem("same start", "1 + 2 =", "3 , 4", ("3 , 4", "3 , 5", "6 7 8")),
    sl.Problem("same end", "2 + 2", "= 4 .", ("= 4 .", "5 .")),
    sl.Problem("letters", "3 + 4 =", "7", ("7", "8")),
]


@pytest.fixture(scope="module")
def found(toy_model):
    model = toy_model("bridge")
    direction = sl.Direction(torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0)), layer=1, name="mine")
    return model, sl.critical_tokens(model, WORDS, direction, alpha=2.0)


def log_probs(model, tokens, direction=None, alpha=0.0):
    """Oracle: one text alone through the whole model, with a hook of TransformerLens."""
    hooks = [] if direction is None else [(hook_name(model, 1, "resid_post"), lambda r, hook: r + alpha * direction.vector.to(r))]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return model(torch.tensor([tokens]))[0].double().log_softmax(-1)


def test_every_number_is_that_of_a_plain_hooked_run(found):
    model, result = found
    for (name, run), part in result.frame.groupby(["problem_id", "run"], sort=False):
        problem = next(p for p in WORDS if p.id == name)
        answers = [problem.target] if run == "right" else [choice for choice in problem.choices if choice != problem.target]
        texts = [token_ids(model, problem.prompt + answer) for answer in answers]
        tokens = next(t for t in texts if [model.tokenizer.decode([k]) for k in t] == part["token"].tolist())
        before, after = log_probs(model, tokens), log_probs(model, tokens, result.direction, 2.0)
        kl = (before.exp() * (before - after)).sum(-1)
        np.testing.assert_allclose(part["kl"], kl.numpy(), atol=1e-4)
        own = torch.tensor(tokens[1:])[:, None]
        np.testing.assert_allclose(part["logprob"][1:], before[:-1].gather(1, own)[:, 0].numpy(), atol=1e-4)
        np.testing.assert_allclose(part["logprob_steered"][1:], after[:-1].gather(1, own)[:, 0].numpy(), atol=1e-4)
        assert np.isnan(part["logprob"].iloc[0])


def test_margins_of_the_parts_add_up_to_the_difference_of_the_answers(found):
    model, result = found
    with_choices = [p for p in WORDS if len(p.choices) == 2]
    scored = sl.evaluate(model, with_choices, scorer="continuation").frame.set_index("problem_id")["margin"]
    sums = result.margins().groupby("problem_id")["margin"].sum()
    for problem in with_choices:
        assert sums[problem.id] == pytest.approx(scored[problem.id], abs=1e-4)


def test_parts_follow_the_tokens_that_both_answers_share(found):
    _, result = found
    parts = result.frame[result.frame["run"] == "right"].groupby("problem_id", sort=False)["part"].agg(lambda x: list(dict.fromkeys(x)))
    assert parts["letters"] == ["prompt", "differing"]
    assert parts["same end"][-1] == "shared end"
    shared = result.margins().query("part == 'shared start'")
    np.testing.assert_allclose(shared[["margin", "change"]], 0.0, atol=1e-5)  # the same tokens in the same context


def test_concentration_counts_the_fewest_tokens_that_hold_the_share(found):
    _, result = found
    for share in (0.5, 0.9, 1.0):
        for line in result.concentration(share).itertuples():
            kl = result.frame.query("problem_id == @line.problem_id and run == @line.run")["kl"].sort_values(ascending=False)
            needed = int(line.needed)
            assert kl[:needed].sum() >= share * kl.sum() * (1 - 1e-9)
            assert needed == 1 or kl[: needed - 1].sum() < share * kl.sum()
    with pytest.raises(ValueError, match="share=0; use a number above 0"):
        result.concentration(0)


def test_shares_add_up_to_one_and_results_show_themselves(found):
    _, result = found
    assert result.summary().groupby(["correct", "run"])["share"].sum().to_numpy() == pytest.approx(1.0)
    assert result.by_token(1)["share"].sum() == pytest.approx(1.0)
    assert "90% of the KL is on" in repr(result)
    speaks(result)


def test_what_cannot_be_measured_is_refused(found):
    model, result = found
    with pytest.raises(ValueError, match="alpha=0 changes nothing"):
        sl.critical_tokens(model, WORDS, result.direction, alpha=0)
    with pytest.raises(ValueError, match="no problems given"):
        sl.critical_tokens(model, [], result.direction, alpha=1)
    with pytest.raises(ValueError, match="'free' has no choices"):
        sl.critical_tokens(model, [sl.Problem("free", "1 + 1 =", "2")], result.direction, alpha=1)


def test_the_summary_and_the_figure_say_how_concentrated_the_divergence_is(found):
    _, result = found
    said = result.text(rng=np.random.default_rng(0))
    assert "3 problems" in said
    assert "95% bootstrap interval" in said
    assert said == result.text(rng=np.random.default_rng(0))
    needed = result.concentration()["needed_share"].median()
    figure = sl.plots.critical_tokens(result)
    assert f"{100 * needed:.0f}% of a text" in figure.layout.title.text.replace("<br>", " ")
    with pytest.raises(TypeError, match=r"expected what steerlab\.critical_tokens returns"):
        sl.plots.critical_tokens(result.frame)


def test_an_operator_that_moves_nothing_has_no_concentration(found):
    model, result = found
    nothing = sl.critical_tokens(model, WORDS, result.direction, alpha=1.0, operator=lambda resid, vector, alpha: resid)
    assert nothing.concentration()["needed_share"].isna().all()
    assert "Steering moved no distribution" in nothing.text(rng=np.random.default_rng(0))
    assert "moved no distribution" in sl.plots.critical_tokens(nothing).layout.title.text.replace("<br>", " ")
