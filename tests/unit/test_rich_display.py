"""Every result has a picture of itself for notebooks: well-formed, short, and with outside text as text."""

import dataclasses
import inspect
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
from steerlab.precision import Precision
from steerlab.previews import Correlation
from steerlab.statistics.trends import Reversal

EVIL = "</p><script>window.pwned = 1</script>\"'"
# Not results: parts that a report is given, routers, settings, and the base that results of controls share.
INPUTS = {"Drawing", "Examples", "Table", "ControlTests", "KeywordRouter", "NearestMean", "ReachProjection", "GridCell", "Watcher"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not open."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def public() -> list[type]:
    found = {getattr(space, name) for space in (sl, sl.statistics) for name in space.__all__ if inspect.isclass(getattr(space, name))}
    return sorted((one for one in found if dataclasses.is_dataclass(one) and one.__name__ not in INPUTS), key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", [*public(), Precision, Correlation, Reversal], ids=lambda kind: kind.__name__)
def test_every_public_result_is_frozen_and_shows_itself(kind: type):
    assert kind.__dataclass_params__.frozen
    assert callable(getattr(kind, "_repr_html_", None))
    assert kind.__repr__ is not object.__repr__


def test_there_are_results_to_look_at():
    assert len(public()) > 30


@pytest.fixture(scope="module")
def results(toy_model, backends) -> dict[str, object]:
    model, task = toy_model(backends[0]), sl.load_task("arithmetic", limit=60)
    evaluation = sl.evaluate(model, task.train)
    split = sl.balance(evaluation, rng=np.random.default_rng(0), train=1.0)
    acts = sl.cache_activations(model, split.train, layers=[1])
    groups = [acts.select([p.id for p in group]) for group in (split.train_correct, split.train_incorrect)]
    direction = dataclasses.replace(sl.mean_difference(*groups, layer=1), name=EVIL)
    problems = [dataclasses.replace(problem, id=f"{EVIL}{k}") for k, problem in enumerate(task.test[:6])]
    control = sl.random_control(model, problems, direction, alpha=2.0, n=3, rng=np.random.default_rng(1))
    return {
        "problem": dataclasses.replace(problems[0], prompt=EVIL + problems[0].prompt),
        "task": sl.Task(EVIL, task.train, task.validation, task.test, "choice"),
        "evaluation": sl.evaluate(model, problems),
        "split": split,
        "activations": acts,
        "direction": direction,
        "sweep": sl.sweep(model, problems, direction, alphas=[-1, 0, 1]),
        "control": control,
        "rank test": control.rank_test(),
        "sign test": control.sign_test(),
        "diagnostics": sl.contrast_diagnostics(*groups, rng=np.random.default_rng(2)),
        "magnitudes": sl.token_magnitudes(model, problems, layers=[1], direction=direction),
        "precision": Precision(EVIL, 10, 1),
        "reversal": Reversal(-1.0, 0.0, 0.1, increasing=True, p_value=0.2, n_pairs=3),
        "correlation": Correlation(0.9, 0.8, 4),
        "outcomes": sl.controls_from_frame(
            pd.DataFrame({"problem_id": ["a", "b"], "correct": [True, False]}),
            pd.DataFrame(
                {"direction": [EVIL] * 2 + ["c"] * 2, "is_control": [False] * 2 + [True] * 2, "problem_id": ["a", "b"] * 2, "correct": True}
            ),
        ),
    }


def test_what_is_shown_is_well_formed_and_outside_text_stays_text(results: dict[str, object]):
    for name, result in results.items():
        html = result._repr_html_()
        page = Balanced(html)
        assert page.open == [], name
        assert "script" not in page.tags, name
        assert 10 < len(html) < 50_000, name


def test_a_layers_diagnostics_show_their_numbers(results: dict[str, object]):
    html = results["diagnostics"].layers[0]._repr_html_()
    assert Balanced(html).open == []
    assert "Contrast at layer 1" in html
    assert "stability" in html
