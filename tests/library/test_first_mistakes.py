"""What a newcomer gives by mistake is told in one way everywhere, and texts are taken where no answer is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("first_mistakes.py")


@pytest.fixture(scope="module")
def found() -> dict:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_function_tells_a_newcomer_what_to_give_instead(found):
    """Oracle: the words are those of one check; before, half of the functions ended in an AttributeError or a TypeError of Python's own."""
    taken = {("texts or problems", "texts"), ("texts or problems", "problems")}
    wrong = {}
    for key, (kind, message) in found["told"].items():
        group, _, given = key.split(" | ")
        if (group, given) in taken:
            expected = kind in ("Activations", "Magnitudes")
        else:
            fix = {"task": "a (Task|dict)", "texts": "a list of texts"}.get(group, "a list of problems|steerlab.Problem|alone")
            expected = kind == "InputTypeError" and any(word in message for word in fix.replace("(Task|dict)", "Task|a dict").split("|"))
        if not expected:
            wrong[key] = (kind, message)
    assert not wrong
    assert len(found["told"]) > 300


def test_what_is_given_in_the_place_of_results_and_models_is_named_too(found):
    fixes = {
        "balance": "give what steerlab.evaluate(model, problems) returned",
        "contrast_directions": "give what steerlab.evaluate(model, problems) returned",
        "failure_analysis": "give what steerlab.sweep(model, problems, direction) returned",
        "mean_difference": "give what steerlab.cache_activations returned",
        "cosine_table": "give a list of steerlab Directions",
        "a name where a model is wanted": "as steerlab.load_model returns",
        "a model of transformers": "as steerlab.load_model returns",
        "a layer with a point": "layer=1.0 is a float; use a whole number from 0 to 5",
        "texts of texts": "give text, or token ids, which are whole numbers",
        "token ids with a point": "give text, or token ids, which are whole numbers",
    }
    told = {name: kind if kind != "InputError" else message for name, (kind, message) in found["elsewhere"].items()}
    assert {name: fix for name, fix in fixes.items() if fix not in told[name]} == {}, told


def test_the_messages_name_the_value_and_the_fix(found):
    told = found["told"]
    for function in ("evaluate", "sweep", "random_control", "preview", "learn_vector", "critical_tokens"):
        assert told[f"problems | {function} | task"][1] == "problems is a Task; give a list of problems, e.g. task.test"
        assert told[f"problems | {function} | problem"][1] == "problems is one Problem; give a list of problems, e.g. task.test"
        assert "a text has no answer to score; give steerlab.Problem(id, prompt, target)" in told[f"problems | {function} | texts"][1]
        assert "can be read only once" in told[f"problems | {function} | generator"][1]


def test_texts_are_cached_like_the_prompts_of_problems(found):
    assert found["ids"] == ["text-0"]
    assert found["same"]
