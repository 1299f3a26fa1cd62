"""The map in CONTRIBUTING.md is that of the library: rooms, layers, modules, core modules and the way of one question."""

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import steerlab as sl

ROOT = Path(sl.__file__).parents[1]
MAP = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = {path.parent.name for path in (ROOT / "steerlab").glob("*/__init__.py")}
LINES = {room: (int(layer), modules) for room, layer, modules in re.findall(r"^\| `(\w+)/` \| (\d+) \|[^|]*\|([^|]*)\|$", MAP, re.M)}
WAY = re.findall(r"sl\.(\w+) +(\w+/\w+)\.py  ", MAP)


def contract() -> list[set[str]]:
    """The layers of the import contract, from the bottom."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one["type"] == "layers")
    return [{name.strip().removeprefix("steerlab.") for name in layer.split("|")} for layer in reversed(layers)]


def named(modules: str) -> set[str]:
    return {name.rstrip("/") for name in re.findall(r"`([\w/]+)`", modules)}


def test_every_room_has_one_line_and_every_line_a_room():
    assert set(LINES) == ROOMS
    assert len(re.findall(r"^\| `\w+/` \|", MAP, re.M)) == len(ROOMS) <= 17


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_rooms_modules_are_named_in_its_line_and_in_its_docstring(room):
    there = {path.stem for path in (ROOT / "steerlab" / room).glob("[!_]*.py")}
    there |= {path.parent.name for path in (ROOT / "steerlab" / room).glob("*/__init__.py")}
    assert named(LINES[room][1]) == there
    said = importlib.import_module(f"steerlab.{room}").__doc__
    assert said is not None
    assert there <= named(said)


def test_layers_are_those_of_the_import_contract_and_at_most_twelve():
    layers = contract()
    assert len(layers) <= 12
    below = {path.stem for path in (ROOT / "steerlab").glob("_[!_]*.py")}
    assert len(below) <= 4
    assert set().union(*layers) == ROOMS | below
    assert {room: layer for room, (layer, _) in LINES.items()} == {name: k for k, names in enumerate(layers, 1) for name in names - below}


def test_nothing_lies_flat_beside_the_rooms_but_private_helpers():
    assert {path.name for path in (ROOT / "steerlab").glob("[!_]*.py")} == set()


def test_fifteen_modules_are_marked_as_core():
    marked = [f"{room}/{name}" for room, (_, modules) in LINES.items() for name in re.findall(r"\*\*`(\w+)`\*\*", modules)]
    assert len(marked) == 15


def test_every_file_that_the_map_names_exists():
    for path in re.findall(r"`(\w+/\w+\.py|_\w+\.py)`", MAP):
        assert any((ROOT / base / path).is_file() for base in ("steerlab", ".")), path


def test_what_the_map_says_is_in_a_file_is_defined_there():
    said = re.findall(r"`(\w+)` in `(\w+)/(\w+)\.py`", MAP)
    assert len(said) >= 10
    for name, room, module in said:
        found = getattr(importlib.import_module(f"steerlab.{room}.{module}"), name)
        assert found.__module__ == f"steerlab.{room}.{module}", name


def test_every_name_of_the_library_that_a_docstring_or_page_mentions_exists():
    files = [*(ROOT / "steerlab").rglob("*.py"), *(ROOT / "analyses").glob("*.py"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    lost = []
    for path in files:
        for name in re.findall(r"`(steerlab(?:\.\w+)+)`", path.read_text(encoding="utf-8")):
            try:
                pkgutil.resolve_name(name)
            except (AttributeError, ImportError):
                lost.append(f"{path.relative_to(ROOT)}: {name}")
    assert lost == []


def test_the_way_of_one_question_passes_functions_where_they_are_defined():
    assert [name for name, _ in WAY] == ["evaluate", "cache_activations", "mean_difference", "sweep", "random_control", "write_report"]
    for name, place in WAY:
        assert getattr(sl, name).__module__ == f"steerlab.{place.replace('/', '.')}", name
