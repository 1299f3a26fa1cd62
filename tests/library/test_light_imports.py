"""What is not used is not imported: the package is there at once, and its numbers need no torch.

Stubs (`__init__.pyi`) say what is public: type checkers read them, and `lazy_loader` finds each name by them when it is first used.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import steerlab

ROOT = Path(steerlab.__file__).parent
STUBS = sorted(ROOT.rglob("*.pyi"))
HEAVY = ("torch", "transformers", "transformer_lens")
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ImportError(f"{{name}} is not here")

sys.meta_path.insert(0, Blocked())
"""
# Every public function of these rooms has an example (see test_examples), so their examples are a run of all of them.
EXAMPLES = """
import doctest, importlib, pkgutil
import {room} as room

for name in room.__all__:
    getattr(room, name)
tried = [doctest.testmod(importlib.import_module(f"{room}.{{found.name}}")) for found in pkgutil.iter_modules(room.__path__)]
print(sum(one.attempted for one in tried), "examples", sum(one.failed for one in tried), "failed")
"""


def run(program):
    """The last line of what a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()[-1]


def public(stub):
    """Module, its own name and the public name of everything that a stub lists."""
    package = ".".join(("steerlab", *stub.parent.relative_to(ROOT).parts))
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((package, f"{package}.{node.module}" if node.module else None, one.name, one.asname) for one in node.names)


@pytest.mark.parametrize(("package", "home", "name", "shown"), [line for stub in STUBS for line in public(stub)])
def test_a_public_name_is_the_object_of_its_module(package, home, name, shown):
    assert shown == name  # so that type checkers take it for public, and lazy_loader finds it
    found = getattr(importlib.import_module(package), name)
    assert found is (importlib.import_module(f"{package}.{name}") if home is None else getattr(importlib.import_module(home), name))


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_a_package_lists_exactly_its_public_names(stub):
    names = {name for *_, name in public(stub)}
    package = importlib.import_module(next(public(stub))[0])
    assert set(package.__all__) == names
    assert names <= set(dir(package))


def test_importing_the_package_and_its_constants_loads_nothing_heavy():
    loaded = "import sys, steerlab as sl; sl.ALPHAS, sl.InputError, sl.__version__; print(sorted({*%r} & {*sys.modules}))"
    assert run(loaded % ((*HEAVY, "pandas", "scipy", "sklearn", "plotly"),)) == "[]"


@pytest.mark.parametrize(
    "module", ["steerlab.cli.run", "steerlab.tasks.arithmetic", "steerlab.studies", "steerlab._files", "steerlab._progress"]
)
def test_what_scripts_need_for_their_options_needs_neither_torch_nor_pandas(module):
    assert run(f"import sys, {module}; print(sorted({{*{(*HEAVY, 'pandas')}}} & {{*sys.modules}}))") == "[]"


@pytest.mark.parametrize("room", ["steerlab.statistics", "steerlab.validation.published"])
def test_statistics_and_the_published_audit_work_without_torch(room):
    number, _, failed, _ = run(BLOCKED + EXAMPLES.format(room=room)).split()
    assert int(number) > 5
    assert failed == "0"


def test_figures_can_be_imported_without_torch():
    assert run(BLOCKED + "import steerlab.plots as plots; print(len([getattr(plots, name) for name in plots.__all__]) > 10)") == "True"


def test_a_function_that_needs_a_model_says_what_is_missing_without_torch():
    assert (
        run(BLOCKED + "import steerlab\ntry:\n    steerlab.load_model\nexcept ImportError as error:\n    print(error)")
        == "torch is not here"
    )


@pytest.mark.slow
def test_a_type_checker_knows_models_and_public_names(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        'import steerlab as sl\n\nsl.evaluate(3, [])\nsl.evaluate(sl.load_model(), [])\nsl.nothing\nsl.statistics.sign_test("a", [1], mid_p=2)\n'
    )
    config = ("--config-file", str(ROOT.parent / "pyproject.toml"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *config, str(program)], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    found = [line.split(":")[1] for line in done.stdout.splitlines() if " error: " in line]
    assert found == ["3", "5", "6"], done.stdout + done.stderr
    assert 'incompatible type "int"; expected "Model"' in done.stdout
