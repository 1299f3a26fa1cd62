"""Every result has a picture of itself for notebooks: well-formed, short, and with outside text as text."""

import ast
import dataclasses
import inspect
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
from steerlab.models.model import Precision
from steerlab.statistics.dose_response import Reversal
from steerlab.sweeps.choosing import HalvingResult
from steerlab.sweeps.preview import Correlation

EVIL = '</p><script>window.pwned = 1</script>"\' onclick="pwned=1" x=\'&quot; y=1 >'
# Not results: parts that a report is given, routers, settings, and the base that results of controls share.
INPUTS = {
    "Drawing",
    "Report",
    "Examples",
    "Table",
    "ControlTests",
    "KeywordRouter",
    "NearestMean",
    "ReachProjection",
    "GridCell",
    "Watcher",
}


TAGS = {"p", "pre", "table", "caption", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {("border", "1"), ("class", "dataframe"), ("style", "text-align: right;")}
WITH_TEXT = ("problem", "task", "evaluation", "direction", "sweep", "control", "halving", "max statistic", "precision", "outcomes")


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not open; keeps what tags have."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


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
        "evaluation": sl.Evaluation(tuple(problems), sl.evaluate(model, problems).frame.assign(prediction=EVIL), EVIL),
        "split": split,
        "activations": acts,
        "direction": direction,
        "sweep": sl.sweep(model, problems, direction, alphas=[-1, 0, 1]),
        "control": control,
        "halving": HalvingResult(
            pd.DataFrame(
                {"round": [1], "layer": 1, "direction": EVIL, "alpha": 1.0, "n": 2, "accuracy": 0.5, "margin_change": 0.0, "kept": True}
            ),
            4,
            8,
        ),
        "max statistic": sl.statistics.max_statistic_test([0, 0, 1], pd.DataFrame({EVIL: [1, 1, 1]}), rng=np.random.default_rng(3)),
        "rank test": control.rank_test(),
        "sign test": control.sign_test(),
        "diagnostics": sl.contrast_diagnostics(*groups, rng=np.random.default_rng(2)),
        "magnitudes": sl.token_magnitudes(model, problems, layers=[1], direction=direction),
        "precision": Precision(EVIL, 10, 1),
        "reversal": Reversal(-1.0, 0.0, 0.1, increasing=True, pvalue=0.2, n_pairs=3),
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
        assert page.tags <= TAGS, name
        assert page.attributes <= ATTRIBUTES, name
        assert 10 < len(html) < 50_000, name
    for name in WITH_TEXT:
        shown = "".join(Balanced(results[name]._repr_html_()).texts)
        assert EVIL[:20] in shown or repr(EVIL)[:20] in shown, name


SOURCES = Path(sl.__file__).parent
# What stands in tags without `escape` and without a number's format: numbers, texts made of numbers and names of our own, and parts escaped before.
UNESCAPED = {
    "AdaptiveResult": {"notes"},
    "ContrastDiagnostics": {"self"},
    "ControlOutcomes": {"self.n", "len(self.baseline)"},
    "ControlResult": {"self.layer", "self.alpha"},
    "Correlation": {"self"},
    "Evaluation": {"self.n"},
    "HalvingResult": {"self"},
    "LearnedVectors": {"self"},
    "Magnitudes": {"self"},
    "MultiLayerVector": {"self"},
    "Preview": {"self"},
    "Problem": {"asked", "choices"},
    "SideEffects": {"self"},
    "SweepResult": {"self"},
}


def named(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def unescaped(tree: ast.Module) -> list[str]:
    """What a module shows in HTML as it is."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and named(node) == "to_html"):
        said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        found += [] if said.get("escape") is True else [f"line {call.lineno}: a frame without escape=True"]
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for method in (node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "_repr_html_"):
            for text in (node for node in ast.walk(method) if isinstance(node, ast.JoinedStr)):
                tagged = any(isinstance(part, ast.Constant) and "<" in str(part.value) for part in text.values)
                parts = [part for part in text.values if isinstance(part, ast.FormattedValue) and part.format_spec is None and tagged]
                bare = [part for part in parts if not (isinstance(part.value, ast.Call) and named(part.value) == "escape")]
                allowed = UNESCAPED.get(kind.name, set())
                found += [f"line {part.lineno}: {said}" for part in bare if (said := ast.unparse(part.value)) not in allowed]
    return found


def test_nothing_that_is_shown_skips_the_escape():
    """Read off the source: results of every kind are too many to build with a hostile name in every place."""
    found = {path.name: unescaped(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_layers_diagnostics_show_their_numbers(results: dict[str, object]):
    html = results["diagnostics"].layers[0]._repr_html_()
    assert Balanced(html).open == []
    assert "Contrast at layer 1" in html
    assert "stability" in html
