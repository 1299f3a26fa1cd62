"""Scorers on a real language model, against numbers that steerlab did not compute."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import steerlab as sl
from steerlab.models.backends import HookedTransformer
from steerlab.tasks.problems import Problem

SHARED = Path(__file__).resolve().parents[3] / "shared"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared is not here")

TEXTS = [
    ("Once upon a time, there was a", (" little girl named Lily.", " big red ball", " the")),
    ("Tom and Sue like to play", (" in the park. They run and jump.", " with")),
    ("Lily's mom said,", (' "No, you can not eat it!"', ' "Let\'s go home." So they went home and had dinner.')),
]
PARADIGMS = {"anaphor_gender_agreement": 0.764, "irregular_past_participle_verbs": 0.910, "determiner_noun_agreement_1": 0.680}
EACH = [pytest.param(name, marks=[] if i == 0 else pytest.mark.slow) for i, name in enumerate(PARADIGMS)]


@cache
def hugging_face():
    folder = SHARED / "models" / "stories260K"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


@torch.no_grad()
def log_likelihood(prompt: str, continuation: str) -> float:
    """Summed log-probability of the tokens that the continuation adds, from the logits of transformers."""
    model, tokenizer = hugging_face()
    before, whole = ([1, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in (prompt, prompt + continuation))
    start = len(before)  # 1 begins a sequence
    assert whole[:start] == before
    log_p = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[i - 1, whole[i]]) for i in range(start, len(whole)))


@pytest.mark.parametrize("scorer", ["continuation", "continuation_norm"])
def test_continuation_likelihoods_are_those_of_transformers(stories, backend, scorer):
    """Oracle: transformers' logits, log_softmax and a sum; divided by UTF-8 bytes for the normalised scorer."""
    problems = [Problem(str(i), prompt, 0, choices) for i, (prompt, choices) in enumerate(TEXTS)]
    frame = sl.evaluate(stories(backend), problems, scorer=scorer).frame
    for (prompt, choices), row in zip(TEXTS, frame.itertuples(), strict=True):
        sums = [log_likelihood(prompt, choice) for choice in choices]
        scores = [s / len(c.encode()) if scorer == "continuation_norm" else s for s, c in zip(sums, choices, strict=True)]
        assert row.nll == pytest.approx(-sums[0], abs=1e-3)
        assert row.margin == pytest.approx(scores[0] - max(scores[1:]), abs=1e-3)
        assert row.prediction == choices[scores.index(max(scores))].strip()


@pytest.mark.parametrize("target", [" little", " the ball"])
def test_the_target_of_a_generated_answer_has_the_likelihood_that_transformers_gives_it(stories, backend, target):
    """Oracle: transformers."""
    prompt = "Once upon a time, there was a"
    row = sl.evaluate(stories(backend), [Problem("p", prompt, target.strip())], scorer="text").frame.iloc[0]
    assert row["nll"] == pytest.approx(-log_likelihood(prompt, target), abs=1e-3)


def test_generated_text_is_what_transformers_generates(stories, backend):
    """Oracle: transformers' greedy generate."""
    model, tokenizer = hugging_face()
    prompt = "Once upon a time"
    ids = torch.tensor([[1, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False, pad_token_id=0)
    said = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert "Lily" in said
    row = sl.evaluate(stories(backend), [Problem("p", prompt, said.strip())], scorer="text").frame.iloc[0]
    assert (row["prediction"], row["correct"]) == (said.strip(), True)


def pairs(paradigm: str) -> list[Problem]:
    """The first 500 pairs of a paradigm."""
    task = sl.load_task("blimp", path=SHARED / "datasets" / "blimp" / f"{paradigm}.jsonl")
    everything = [*task.train, *task.validation, *task.test]
    return sorted((p for p in everything if int(p.meta["pairID"]) < 500), key=lambda p: int(p.meta["pairID"]))


@cache
def blimp(model: object, paradigm: str) -> sl.Evaluation:
    return sl.evaluate(model, pairs(paradigm))


@pytest.mark.parametrize("paradigm", EACH)
def test_blimp_accuracy_is_the_known_one(stories, backend, paradigm):
    """Oracle: the accuracies that ../shared/README.md states for the first 500 pairs, to three places."""
    evaluation = blimp(stories(backend), paradigm)
    assert evaluation.n == 500
    assert evaluation.scorer == "minimal_pair"
    assert evaluation.accuracy == pytest.approx(PARADIGMS[paradigm], abs=0.005)


@pytest.mark.parametrize("paradigm", EACH)
def test_blimp_prefers_the_sentence_that_transformers_finds_likelier(stories, backend, paradigm):
    """Oracle: whole-sentence log-likelihoods of transformers, for the first 40 pairs."""
    rows = [json.loads(line) for line in (SHARED / "datasets" / "blimp" / f"{paradigm}.jsonl").read_text().splitlines()[:40]]
    frame = blimp(stories(backend), paradigm).frame.head(40)
    for row, outcome in zip(rows, frame.itertuples(), strict=True):
        good, bad = (log_likelihood("", row[key]) for key in ("sentence_good", "sentence_bad"))
        assert outcome.correct == (good > bad)
        assert outcome.margin == pytest.approx(good - bad, abs=2e-3)


@pytest.mark.skipif(HookedTransformer is None, reason="TransformerLens 4 has one backend only")
@pytest.mark.parametrize("paradigm", EACH)
def test_both_backends_predict_alike(stories, paradigm):
    first, second = (blimp(stories(backend), paradigm).frame for backend in ("hooked", "bridge"))
    assert first["prediction"].tolist() == second["prediction"].tolist()
    assert first["margin"].to_numpy() == pytest.approx(second["margin"].to_numpy(), abs=1e-3)
