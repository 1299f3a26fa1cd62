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
