"""The embedded model: small, the same on both backends, and a fair subject: neither hopeless at its task nor perfect."""

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab.models.encoding import token_ids
from steerlab.models.model import backend_of, context_length, describe
from steerlab.models.passes import forward
from steerlab.tasks.arithmetic import arithmetic

FOLDER = Path(str(resources.files("steerlab") / "embedded" / "tiny-arithmetic"))


@pytest.fixture(scope="module")
def model(backend):
    return sl.load_model("tiny-arithmetic", backend=backend, device="cpu")


@pytest.fixture(scope="module")
def held_out():
    """Problems of the test split, which training never saw."""
    return arithmetic(n_train=0, n_validation=0, n_test=400, seed=123, form="choice").test


@pytest.fixture(scope="module")
def evaluated(model, held_out):
    return sl.evaluate(model, held_out)


def card():
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def test_it_is_what_loading_without_a_name_gives():
    model = sl.load_model()
    assert describe(model)["name"] == "tiny-arithmetic"
    assert describe(model)["processing"] == "raw"


def test_each_backend_loads_it(model, backend):
    assert backend_of(model) == backend


def test_it_is_small_and_without_pickle():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {file.name for file in files}
    assert not [file for file in files if file.suffix in {".bin", ".pt", ".pth", ".pkl", ".checkpoint"}]


@torch.no_grad()
def test_its_backend_computes_what_the_published_model_computes(model, held_out):
    """Oracle: the Hugging Face model of the same folder, eager attention."""
    from transformers import AutoModelForCausalLM

    published = AutoModelForCausalLM.from_pretrained(FOLDER, attn_implementation="eager").eval()
    for problem in held_out[:10]:
        tokens = torch.tensor([token_ids(model, problem.prompt)])
        torch.testing.assert_close(forward(model, tokens), published(tokens).logits, rtol=0, atol=1e-4)


def test_it_is_right_often_and_wrong_often(evaluated):
    assert 0.40 <= evaluated.accuracy <= 0.80


def test_every_number_of_steps_has_right_and_wrong_answers(evaluated, held_out):
    steps = pd.Series([problem.meta["steps"] for problem in held_out], name="steps")
    table = pd.crosstab(steps, evaluated.frame["correct"])
    assert list(table.index) == [1, 2, 3, 4]
    assert (table[True] >= 5).all()
    assert (table[False] >= 5).all()


def test_its_answers_do_not_depend_on_the_batch(model, held_out, evaluated):
    some = held_out[::20]
    alone = pd.concat([sl.evaluate(model, [problem]).frame for problem in some], ignore_index=True)
    together = evaluated.frame[::20].reset_index(drop=True)
    assert list(alone["prediction"]) == list(together["prediction"])
    np.testing.assert_allclose(alone["margin"], together["margin"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["story", "equation", "largest"])
@pytest.mark.parametrize("form", ["choice", "numeric"])
def test_every_problem_of_its_task_can_be_asked(variant, form, model):
    """No unknown word, no prompt beyond the context, one token a letter."""
    task = arithmetic(n_train=0, n_validation=0, n_test=12, seed=5, variant=variant, form=form, steps=(2, 3, 4))
    unknown = model.tokenizer.unk_token_id
    for problem in task.test:
        ids = token_ids(model, problem.prompt)
        assert unknown not in ids
        assert len(ids) + 32 <= context_length(model)
    assert sl.evaluate(model, task.test).n == 12


def test_its_card_states_what_it_is_and_how_accurate():
    text = card()
    assert re.search(r"\blicense: *mit\b", text, flags=re.IGNORECASE)
    assert "accuracy" in text.lower()
    assert "train_tiny_arithmetic.py" in text
    stated = [float(n) for n in re.findall(r"\b0\.\d{2,3}\b", text)] + [float(n) / 100 for n in re.findall(r"(\d+(?:\.\d+)?) ?%", text)]
    assert any(0.4 <= n <= 0.8 for n in stated)
