"""A plan of the main job, fixed before its test problems are scored: what will be compared, chosen and tested, on which data."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from steerlab import _files
from steerlab._checks import ExistingFileError, InputError, InputFileError, one_of
from steerlab._html import Result
from steerlab.activations.positions import MEASURED, Positions, TokenPositions
from steerlab.controls import DEFAULT_PIPELINES, PIPELINES
from steerlab.controls.pipelines import SIDES, Choice
from steerlab.models.backends import Model
from steerlab.models.model import describe, n_layers
from steerlab.statistics.multiplicity import LEVEL
from steerlab.steering import ALPHAS
from steerlab.steering.operators import Operator, operator_label
from steerlab.tasks.groups import groups_of
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.problems import Problem, Task, check_task, content

FORMAT, REMEDY = "steerlab-plan-1", "give a file that steerlab plan or save_plan wrote"
CHOOSE = ("shortlist", "grid", "preset")
SCORES = ("accuracy", "margin", "nll")  # what can be chosen by and tested
OF_MODEL = ("name", "revision", "weights", "processing", "prepend_bos", "dtype")  # of what describes a model, what a plan fixes


@dataclass(frozen=True)
class ExperimentPlan(Result):
    """What a main job is going to do, fixed beforehand.

    Attributes:
        protocol: data by SHA-256, model, candidates, rule of choice, measure, alternatives, level, number of controls, seed.
    """

    protocol: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """By which a report names it."""
        return hashlib.sha256(json.dumps(_plain(self.protocol), sort_keys=True).encode()).hexdigest()

    @property
    def frame(self) -> pd.DataFrame:
        """One line a choice: choice, value."""
        return pd.DataFrame({"choice": list(self.protocol), "value": [json.dumps(value) for value in self.protocol.values()]})

    def deviations(self, protocol: Mapping[str, Any]) -> list[str]:
        """What a run did otherwise, a sentence each."""
        planned, done = _plain(self.protocol), _plain(protocol)
        names = list(dict.fromkeys([*planned, *done]))
        return [
            f"{name} is {_shown(done.get(name))}; planned was {_shown(planned.get(name))}"
            for name in names
            if planned.get(name) != done.get(name)
        ]

    def __repr__(self) -> str:
        return f"ExperimentPlan({self.sha256[:12]}, {self.protocol['measure']}, {self.protocol['n_controls']} pipelines of each kind)"

    def __str__(self) -> str:
        return "\n".join([f"plan {self.sha256}", *(f"{name:<16}{_shown(value)}" for name, value in self.protocol.items())])


def _plain(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """As it is read back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(dict(protocol)))
    return found


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "nothing" if value is None else str(value)


def problems_digest(problems: Sequence[Problem], *, ordered: bool = True) -> str:
    """SHA-256 of what problems ask: prompts, choices, right answers and groups; ids do not matter, and unless `ordered` nor does their order.

    Example:
        >>> problem = Problem("a", "1 + 1 =", 2)
        >>> problems_digest([problem]) == problems_digest([Problem("b", "1 + 1 =", "2")])
        True
    """
    asked = [json.dumps([*content(problem), problem.group]) for problem in problems]
    return hashlib.sha256(json.dumps(asked if ordered else sorted(asked)).encode()).hexdigest()


def protocol_of(
    model: Model,
    task: Task,
    *,
    seed: int,
    layers: Sequence[int] | None,
    alphas: Sequence[float],
    measure: str,
    choose: str,
    choice: Choice,
    n_controls: int,
    stop_after: int | None,
    pipelines: Sequence[str],
    cache_positions: Positions,
    positions: Positions,
    operator: str | Operator,
) -> dict[str, Any]:
    """What a plan fixes, of a main job; the task as the model holds it."""
    splits = {name: getattr(task, name) for name in ("train", "validation", "test")}
    about = describe(model)
    return {
        "task": task.name,
        "scorer": task.scorer,
        **{f"{name} problems": problems_digest(problems, ordered=name != "test") for name, problems in splits.items()},
        "n": {name: len(problems) for name, problems in splits.items()},
        "groups": len(set(groups_of(task.test))),
        "model": {name: about[name] for name in OF_MODEL if name in about},
        "measure": measure,
        "alternatives": dict(SIDES),
        "level": LEVEL,
        "choose": choose,
        "layers": list(range(n_layers(model))) if layers is None else [int(layer) for layer in layers],
        "alphas": [float(alpha) for alpha in alphas],
        "compared on": choice.stages(len(task.validation)),
        "pipelines": list(pipelines),
        "n_controls": int(n_controls),
        "stop_after": stop_after,
        "measured at": TokenPositions.of(cache_positions, MEASURED).describe(),
        "positions": TokenPositions.of(positions).describe(),
        "operator": operator_label(operator),
        "seed": int(seed),
    }


def check_choices(measure: str, choose: str, pipelines: Sequence[str]) -> None:
    """Refuse what the main job cannot choose or compare by."""
    one_of(measure, "measure", SCORES)
    one_of(choose, "choose", CHOOSE)
    for kind in pipelines:
        one_of(kind, "pipelines", PIPELINES)
    if not pipelines or len(set(pipelines)) < len(pipelines):
        raise InputError(f"pipelines={list(pipelines)}; give at least one of {', '.join(PIPELINES)}, each once")


def choice_of(measure: str, choose: str) -> Choice:
    """How pipelines choose: all cells of a grid are compared on all problems, a short list on fewer."""
    return Choice(measure, screen=None, problems=None) if choose == "grid" else Choice(measure)


def plan_experiment(
    model: Model,
    task: Task,
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    alphas: Sequence[float] = ALPHAS,
    measure: str = "accuracy",
    choose: str = "shortlist",
    n_controls: int = 99,
    stop_after: int | None = 10,
    pipelines: Sequence[str] = DEFAULT_PIPELINES,
    cache_positions: Positions = "last",
    positions: Positions = "all",
    operator: str | Operator = "add",
    too_long: str = "error",
) -> ExperimentPlan:
    """The plan of a main job: what `steerlab.run_experiment` would do with these arguments, before any problem is scored.

    Give it to `run_experiment(plan=...)`, whose report then names it by its hash and lists deviations.

    Args:
        task: with train, validation and test problems.
        seed, layers, alphas, measure, choose, n_controls, stop_after, pipelines, cache_positions, too_long: as in `steerlab.run_experiment`.
        positions, operator: how the direction will act.

    Raises:
        ValueError: an unknown measure, way to choose or kind of pipelines, or a task that is none.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> plan = sl.plan_experiment(model, task, seed=0, layers=[3])
        >>> plan.deviations(plan.protocol | {"seed": 1})
        ['seed is 1; planned was 0']
    """
    check_task(task)
    check_choices(measure, choose, pipelines)
    protocol = protocol_of(
        model,
        fit_to_context(model, task, too_long=too_long),
        seed=seed,
        layers=layers,
        alphas=alphas,
        measure=measure,
        choose=choose,
        choice=choice_of(measure, choose),
        n_controls=n_controls,
        stop_after=stop_after,
        pipelines=pipelines,
        cache_positions=cache_positions,
        positions=positions,
        operator=operator,
    )
    return ExperimentPlan(protocol)


def save_plan(path: str | Path, plan: ExperimentPlan) -> Path:
    """Write a plan as JSON that holds its own SHA-256.

    Raises:
        FileExistsError: there is a file; a plan that was written is not replaced.
        OSError: it cannot be written.

    Example:
        >>> import tempfile, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> plan = sl.plan_experiment(model, task, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = sl.load_plan(sl.save_plan(f"{folder}/plan.json", plan))
        >>> again.sha256 == plan.sha256
        True
    """
    if not _files.is_vacant(path):
        raise ExistingFileError(f"{path} exists; a plan is not replaced: choose another name, or remove it")
    return _files.write_sealed(path, FORMAT, {"protocol": _plain(plan.protocol), "plan": plan.sha256})


def load_plan(path: str | Path) -> ExperimentPlan:
    """The plan in a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError, OSError: no plan, or one that was changed.

    Example:
        >>> load_plan("no-plan.json")
        Traceback (most recent call last):
        steerlab._checks.MissingFileError: ...
    """
    record = _files.read_sealed(path, FORMAT, REMEDY)
    if not isinstance(record.get("protocol"), dict) or ExperimentPlan(record["protocol"]).sha256 != record.get("plan"):
        raise InputFileError(f"{path}: holds no plan, or another than it says; {REMEDY}")
    return ExperimentPlan(record["protocol"])
