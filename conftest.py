"""The examples of the documentation share the embedded model, its problems and one small experiment, because each of 60 would make them again."""

from collections.abc import Callable
from functools import cache

import pytest
from _pytest.doctest import DoctestItem


def loaded_once(load: Callable[..., object]) -> Callable[..., object]:
    """A loading function that gives the same embedded model, and the same embedded problems, to all who ask in the same way."""
    kept = cache(load)
    return lambda *given, **options: (kept if given in (("tiny-arithmetic",), ("arithmetic",)) else load)(*given, **options)


@cache
def replaced() -> dict[str, Callable[..., object]]:
    """What examples call instead. The package is imported here, behind the import hook that tests/conftest.py installs."""
    import steerlab as sl
    from steerlab.studies.protocol import run_experiment

    experiments: dict[str, object] = {}

    def experiment(model: object, task: object, **options: object) -> object:
        """The result of the same experiment on the same model and task; it is frozen."""
        asked = f"{id(model)} {id(task)} {options}"
        if asked not in experiments:
            experiments[asked] = run_experiment(model, task, **options)
        return experiments[asked]

    return {name: loaded_once(getattr(sl, name)) for name in ("load_model", "load_task")} | {"run_experiment": experiment}


@pytest.fixture(autouse=True)
def examples_load_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only doctests are meant. The examples of the two functions themselves call them by their own names, which stay as they are."""
    if isinstance(request.node, DoctestItem):
        for name, load in replaced().items():
            monkeypatch.setattr(f"steerlab.{name}", load)
