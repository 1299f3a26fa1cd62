"""From text to number: every feature on a real language model, given prompts and answers as a user gives them.

Oracle: transformers, one problem at a time, eager attention, no cache; its own tokenizer, with the token that begins a sequence in front; a forward
hook that adds the vector to what leaves a block. Nothing of steerlab makes the tokens.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import steerlab as sl

STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"
pytestmark = pytest.mark.skipif(not STORIES.is_dir(), reason="the folder ../shared is not here")

PROMPTS = (
    "Once upon a time, there was a",
    "Tom and Sue like to",
    "Lily's mom said, she was",
    "The dog ran",
    "He saw a red",
    "One day, a boy",
)
WORDS = ("little girl", "play", "happy", "away", "ball", "went")
FREE = [sl.Problem(f"f{i}", prompt, word) for i, (prompt, word) in enumerate(zip(PROMPTS, WORDS, strict=True))]  # nothing but a target
CHOICE = [sl.Problem(f"c{i}", p.prompt, i % 2, (f" {p.target}", " the big cat")) for i, p in enumerate(FREE[:4])]
TRAINING = {"epochs": 2, "batch_size": 2, "lr": 1e-2, "seed": 7}


class Plain:
    """The model of transformers."""

    def __init__(self) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(
            STORIES, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(STORIES, local_files_only=True)
        for parameter in self.model.parameters():
            parameter.requires_grad = False

    def ids(self, text: str) -> list[int]:
        return [1, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def answered(self, prompt: str, answer: str) -> tuple[list[int], int]:
        """All tokens, and where the answer begins."""
        before, whole = self.ids(prompt), self.ids(prompt + answer)
        assert whole[: len(before)] == before
        return whole, len(before)

    def run(self, ids: list[int], added: Mapping[int, torch.Tensor] | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Log-probabilities behind each token, and what leaves each block, with vectors added there."""
        left, handles = [], []

        def hook(layer: int):
            def fn(module, args, output):
                hidden = output[0] if isinstance(output, tuple) else output
                if added is not None and layer in added:
                    hidden = hidden + added[layer]
                left.append(hidden[0])
                return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

            return fn

        for layer, block in enumerate(self.model.model.layers):
            handles.append(block.register_forward_hook(hook(layer)))
        try:
            logits = self.model(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return logits.log_softmax(-1), left

    def log_likelihood(self, prompt: str, answer: str, added: Mapping[int, torch.Tensor] | None = None) -> torch.Tensor:
        whole, start = self.answered(prompt, answer)
        log_p, _ = self.run(whole, added)
        return torch.stack([log_p[i - 1, whole[i]] for i in range(start, len(whole))]).sum()

    def margin(self, problem: sl.Problem, added: Mapping[int, torch.Tensor] | None = None) -> torch.Tensor:
        scores = [self.log_likelihood(problem.prompt, choice, added) for choice in problem.choices]
        right = problem.target_index
        return scores[right] - torch.stack([score for k, score in enumerate(scores) if k != right]).max()


@pytest.fixture(scope="module")
def plain() -> Plain:
    return Plain()


@pytest.fixture(scope="module")
def model(stories, backend):
    return stories(backend)


def vector(seed: int = 0, size: float = 3.0) -> torch.Tensor:
    drawn = torch.randn(64, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm() * size


def right_answer(problem: sl.Problem) -> str:
    return problem.choices[problem.target_index] if problem.choices else f" {problem.target}"


def plain_training(plain: Plain, problems, parameters, added, *, answer=right_answer):
    """The sources' loop over texts; `added` gives the vectors of a prompt. Changes the parameters; gives the mean loss of each epoch."""
    optimizer, losses, order = torch.optim.Adam(parameters, lr=TRAINING["lr"]), [], list(problems)
    shuffler = np.random.RandomState(TRAINING["seed"])
    for _ in range(TRAINING["epochs"]):
        shuffler.shuffle(order)
        total = 0.0
        for i, problem in enumerate(order, start=1):
            loss = -plain.log_likelihood(problem.prompt, answer(problem), added(problem))
            loss.backward()
            total += loss.detach().item()
            if i % TRAINING["batch_size"] == 0:
                optimizer.step()
                optimizer.zero_grad()
        losses.append(total / len(order))
    return losses


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float(torch.nn.functional.cosine_similarity(ours.flatten(), theirs.detach().flatten(), dim=0)) > 0.9999
    assert float(ours.norm()) == pytest.approx(float(theirs.detach().norm()), rel=1e-3)


# Reading


def test_activations_of_prompts_are_what_leaves_the_blocks_of_transformers(model, plain):
    for positions, pick in (("last", lambda h: h[-1:]), ("mean", lambda h: h.mean(0, keepdim=True)), ((1, -2), lambda h: h[[1, -2]])):
        acts = sl.cache_activations(model, FREE, layers=[0, 3], positions=positions)
        for i, problem in enumerate(FREE):
            _, left = plain.run(plain.ids(problem.prompt))
            for layer in (0, 3):
                torch.testing.assert_close(acts.at(layer)[i], pick(left[layer]), atol=1e-4, rtol=1e-4)


def test_magnitudes_are_norms_and_projections_of_what_leaves_the_blocks(model, plain):
    direction = sl.Direction(vector(), 2)
    frame = sl.token_magnitudes(model, FREE, layers=[2], direction=direction).frame
    for problem in FREE:
        ids = plain.ids(problem.prompt)
        hidden, mine = plain.run(ids)[1][2], frame[frame["problem_id"] == problem.id]
        assert mine["token"].tolist() == [plain.tokenizer.decode([token]) for token in ids]
        assert mine["norm"].to_numpy() == pytest.approx(hidden.norm(dim=-1).numpy(), rel=1e-4)
        assert mine["projection"].to_numpy() == pytest.approx((hidden @ vector() / 3.0).numpy(), abs=1e-3)


def test_the_choice_of_one_token_is_that_of_the_logits_behind_the_prompt(model, plain):
    choices = (" the", " a", " to")
    asked = [sl.Problem(f"p{i}", prompt, i % 3, choices) for i, prompt in enumerate(PROMPTS)]
    frame = sl.evaluate(model, asked, scorer="choice").frame
    ends = [plain.answered("He saw", choice)[0][-1] for choice in choices]
    for problem, line in zip(asked, frame.itertuples(), strict=True):
        scores = plain.run(plain.ids(problem.prompt))[0][-1][ends]
        others = [float(score) for k, score in enumerate(scores) if k != problem.target_index]
        assert line.margin == pytest.approx(float(scores[problem.target_index]) - max(others), abs=1e-3)
        assert line.nll == pytest.approx(float(-scores.log_softmax(-1)[problem.target_index]), abs=1e-3)
        assert line.prediction == choices[int(scores.argmax())].strip()


# Steering


def test_a_sweep_scores_answers_as_transformers_does_with_the_vector_added(model, plain):
    found = sl.sweep(model, CHOICE, sl.Direction(vector(), 2), alphas=[-1.0, 0.5], scorer="continuation")
    for alpha, part in found.frame.groupby("alpha"):
        expected = [float(plain.margin(problem, {2: alpha * vector()})) for problem in CHOICE]
        assert part["margin"].to_numpy() == pytest.approx(expected, abs=1e-3)
        assert part["correct"].tolist() == [margin > 0 for margin in expected]
        likely = [float(plain.log_likelihood(p.prompt, right_answer(p), {2: alpha * vector()})) for p in CHOICE]
        assert part["nll"].to_numpy() == pytest.approx(-np.array(likely), abs=1e-3)
    assert found.baseline.frame["margin"].to_numpy() == pytest.approx([float(plain.margin(problem)) for problem in CHOICE], abs=1e-3)


def test_effects_of_a_direction_and_of_its_controls_are_mean_changes_of_margin(model, plain):
    direction = sl.Direction(vector(), 2)
    found = sl.random_control(model, CHOICE, direction, alpha=-1.0, n=2, rng=np.random.default_rng(7), scorer="continuation")
    before = np.mean([float(plain.margin(problem)) for problem in CHOICE])
    expected = [
        np.mean([float(plain.margin(problem, {2: -one.vector})) for problem in CHOICE]) - before for one in (direction, *found.controls)
    ]
    observed, controls = found.effect("margin")
    assert [observed, *controls] == pytest.approx(expected, abs=1e-3)


def test_slopes_of_a_preview_are_derivatives_of_the_margin(model, plain):
    found = sl.preview(model, CHOICE, [sl.Direction(vector(), 2)], scorer="continuation").slopes.set_index("problem_id")["slope"]
    for problem in CHOICE:
        alpha = torch.zeros((), requires_grad=True)
        plain.margin(problem, {2: alpha * vector()}).backward()
        assert found[problem.id] == pytest.approx(float(alpha.grad), abs=2e-3, rel=1e-3)


def test_side_effects_are_divergence_and_perplexity_on_texts(model, plain):
    texts, direction, alpha = list(PROMPTS[:4]), sl.Direction(vector(), 2), 1.5
    found = sl.side_effects(model, direction, texts, alphas=[alpha])
    kl, entropy, changed, before_nll, after_nll, places, tokens = 0.0, 0.0, 0, 0.0, 0.0, 0, 0
    for text in texts:
        ids = plain.ids(text)
        before, after = (plain.run(ids, added)[0].double() for added in (None, {2: alpha * vector()}))
        kl += float((before.exp() * (before - after)).sum())
        entropy += float(-(after.exp() * after).sum())
        changed += int((before.argmax(-1) != after.argmax(-1)).sum())
        before_nll, after_nll = (
            total - float(sum(lp[i, ids[i + 1]] for i in range(len(ids) - 1))) for total, lp in ((before_nll, before), (after_nll, after))
        )
        places, tokens = places + len(ids), tokens + len(ids) - 1
    line = found.frame.iloc[0]
    assert found.perplexity == pytest.approx(math.exp(before_nll / tokens), rel=1e-4)
    assert line["perplexity"] == pytest.approx(math.exp(after_nll / tokens), rel=1e-4)
    assert line["kl"] == pytest.approx(kl / places, rel=1e-3)
    assert line["entropy"] == pytest.approx(entropy / places, rel=1e-3)
    assert line["changed_predictions"] == changed / places


def test_critical_tokens_are_measured_on_prompt_and_answer_token_by_token(model, plain):
    frame = sl.critical_tokens(model, CHOICE, sl.Direction(vector(), 2), alpha=1.5).frame
    for problem in CHOICE:
        for run, choice in (("right", right_answer(problem)), ("wrong", problem.choices[1 - problem.target_index])):
            ids, start = plain.answered(problem.prompt, choice)
            before, after = (plain.run(ids, added)[0].double() for added in (None, {2: 1.5 * vector()}))
            mine = frame[(frame["problem_id"] == problem.id) & (frame["run"] == run)]
            assert mine["token"].tolist() == [plain.tokenizer.decode([token]) for token in ids]
            assert (mine["part"] == "prompt").sum() == start
            assert mine["kl"].to_numpy() == pytest.approx((before.exp() * (before - after)).sum(-1).numpy(), abs=1e-4, rel=1e-3)
            for column, log_p in (("logprob", before), ("logprob_steered", after)):
                expected = [float(log_p[i - 1, ids[i]]) for i in range(1, len(ids))]
                assert mine[column].to_numpy()[1:] == pytest.approx(expected, abs=1e-3)


# Learning


@pytest.mark.parametrize("problems", [FREE, CHOICE], ids=["target", "choices"])
def test_a_vector_learned_from_text_is_that_of_a_plain_loop(model, plain, problems):
    learned = torch.nn.Parameter(torch.zeros(64))
    losses = plain_training(plain, problems, [learned], lambda problem: {2: learned})
    found = sl.learn_vector(model, problems, layer=2, **TRAINING)
    agree(found.vector, learned)
    assert found.history["loss"].to_numpy() == pytest.approx(losses, rel=1e-4)


def test_a_vector_at_several_layers_learned_from_text_is_that_of_a_plain_loop(model, plain):
    learned, scales = torch.nn.Parameter(torch.zeros(64)), torch.nn.Parameter(torch.tensor([0.5, 1.0]))
    losses = plain_training(plain, FREE, [learned, scales], lambda problem: {1: scales[0] * learned, 3: scales[1] * learned})
    found = sl.learn_multilayer(model, FREE, layers=[1, 3], scales=[0.5, 1.0], **TRAINING)
    agree(found.vector, learned)
    assert found.scales == pytest.approx(scales.tolist(), abs=1e-3)
    assert found.history["loss"].to_numpy() == pytest.approx(losses, rel=1e-4)


def test_a_vector_that_depends_on_the_prompt_learned_from_text_is_that_of_a_plain_loop(model, plain):
    """v = b (1 + tanh(w . p / sqrt(d) + c)), p the mean of the stream over the prompt, at root mean square 1."""
    b, w, c = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((64,), (64,), ()))

    def added(problem: sl.Problem) -> dict[int, torch.Tensor]:
        pooled = plain.run(plain.ids(problem.prompt))[1][2].mean(0)
        pooled = pooled / pooled.square().mean().sqrt()
        return {2: b * (1 + torch.tanh(w @ pooled / 8 + c))}

    losses = plain_training(plain, FREE, [b, w, c], added)
    found = sl.learn_context_vector(model, FREE, layer=2, **TRAINING)
    agree(found.parameters["vector"], b)
    assert found.history["loss"].to_numpy() == pytest.approx(losses, rel=1e-4)


def test_a_target_that_brings_its_own_space_is_learned_as_it_is_written(model, plain):
    spaced = [sl.Problem(problem.id, problem.prompt, f" {problem.target}") for problem in FREE]
    learned = torch.nn.Parameter(torch.zeros(64))
    losses = plain_training(plain, spaced, [learned], lambda problem: {2: learned}, answer=lambda problem: str(problem.target))
    found = sl.learn_vector(model, spaced, layer=2, **TRAINING)
    agree(found.vector, learned)
    assert found.history["loss"].to_numpy() == pytest.approx(losses, rel=1e-4)


def test_a_target_that_brings_its_own_space_is_scored_as_it_is_written(model, plain):
    spaced = [sl.Problem(problem.id, problem.prompt, f" {problem.target}") for problem in FREE[:3]]
    likely = [float(plain.log_likelihood(problem.prompt, str(problem.target))) for problem in spaced]
    assert sl.evaluate(model, spaced, scorer="text").frame["nll"].to_numpy() == pytest.approx(-np.array(likely), abs=1e-3)
