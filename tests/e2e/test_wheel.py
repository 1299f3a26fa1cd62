"""The library works as a wheel, in a clean environment, away from the checkout, embedded model included."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_wheel_runs_the_quick_start_in_a_clean_environment(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=1800)
    (wheel,) = wheels.glob("*.whl")
    typed = {path.relative_to(ROOT).as_posix() for path in (ROOT / "steerlab").rglob("*.pyi")} | {"steerlab/py.typed"}
    assert typed <= set(zipfile.ZipFile(wheel).namelist())  # without the stubs nothing public would be found
    here = {d.metadata["Name"]: d.version.split("+")[0] for d in distributions() if d.metadata["Name"] != "steerlab"}
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{name}=={number}\n" for name, number in sorted(here.items())))
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=1800)
    (quick_start,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    program = tmp_path / "quick_start.py"
    program.write_text(quick_start + "\nprint(sl.__file__)\nprint(ctl)\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "clean") in done.stdout
    assert "ControlResult(" in done.stdout
