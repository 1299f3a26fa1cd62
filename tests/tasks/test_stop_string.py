"""Generated text is read up to the next question, through `evaluate`, on models that say what they are built to say."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from configurations import SPECIAL, word_tokenizer

import steerlab as sl
from steerlab.models.batches import Answer
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import SCORERS
from steerlab.tasks.templates import QUESTION

WORDS = ("Answer", "Question", ":", "7", "3", "5", "seven", "three", "is")


def speaker(folder: Path, follows: Mapping[str, str]) -> Path:
    """A checkpoint in which each word is followed by the one named: one-hot embeddings, blocks that add nothing, and a read-out that is the table."""
    names = [*SPECIAL, *WORDS]
    config = transformers.LlamaConfig(
        vocab_size=len(names), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(names), 16))
        model.lm_head.weight.zero_()
        for word, after in follows.items():
            model.lm_head.weight[names.index(after), names.index(word)] = 1.0
    model.save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def speaking(tmp_path_factory, backend) -> Callable[[Mapping[str, str]], object]:
    def load(follows: Mapping[str, str]) -> object:
        folder = speaker(tmp_path_factory.mktemp("speaker") / "model", follows)
        return sl.load_model(str(folder), backend=backend, device="cpu")

    return load


@pytest.mark.parametrize("target", [7, 3])
def test_a_number_behind_the_next_question_does_not_count(speaking, target):
    """Oracle: by hand. The model says "7 Question : 3" and ends; the last number of the whole text is 3."""
    model = speaking({"Answer": "7", "7": "Question", "Question": ":", ":": "3", "3": "<eos>"})
    row = sl.evaluate(model, [Problem("p", "5 is Answer", target)]).frame.iloc[0]
    assert (row["prediction"], row["correct"]) == ("7", target == 7)


def test_a_text_behind_the_next_question_does_not_count(speaking):
    model = speaking({"Answer": "seven", "seven": "Question", "Question": ":", ":": "three", "three": "<eos>"})
    row = sl.evaluate(model, [Problem("p", "5 is Answer", "seven")], scorer="text").frame.iloc[0]
    assert (row["prediction"], row["correct"]) == ("seven", True)


def test_a_number_before_any_question_counts_to_the_last(speaking):
    model = speaking({"Answer": "7", "7": "is", "is": "3", "3": "<eos>"})
    row = sl.evaluate(model, [Problem("p", "5 Answer", 3)]).frame.iloc[0]
    assert (row["prediction"], row["correct"]) == ("3", True)


def test_a_loop_without_end_is_read_up_to_its_first_question(speaking):
    model = speaking({"Answer": "7", "7": "Question", "Question": ":", ":": "3", "3": ":"})
    row = sl.evaluate(model, [Problem("p", "5 is Answer", 7)]).frame.iloc[0]
    assert (row["prediction"], row["correct"]) == ("7", True)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("gsm8k", {"question": "How many?", "answer": "#### 7"}),
        ("svamp", {"Body": "Ann has 7.", "Question": "How many?", "Answer": 7}),
        ("jsonl", {"prompt": "How many?", "target": 7}),
        ("arithmetic", None),
    ],
)
def test_the_answers_of_every_shipped_task_that_generates_end_at_the_next_question(tmp_path, name, row):
    if row is None:
        problem = sl.load_task(name, form="numeric", limit=1).test[0]
    else:
        rows = [{key: f"{k}: {value}" if isinstance(value, str) else value for key, value in row.items()} for k in range(3)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
        problem = sl.load_task(name, path=tmp_path / "rows.jsonl").test[0]
    said = f"{problem.target}\n\nQuestion: And then? 99"
    model = SimpleNamespace(tokenizer=SimpleNamespace(decode=lambda ids, **how: said))
    outcome = SCORERS[problem.scorer].judge(model, problem, [Answer(generated=(5,)), Answer(((-1.0,),))])
    assert (outcome.prediction, outcome.correct) == (str(problem.target), True)
    if name in ("gsm8k", "svamp"):
        assert str(problem.prompt).startswith(QUESTION)
