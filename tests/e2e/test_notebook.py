"""The Jupyter quick start runs from top to bottom, and says what the README says."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "analyses" / "quick_start.ipynb"


def code(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_holds_the_code_of_the_readme() -> None:
    (quick_start,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    squeezed = "".join("".join(code(nbformat.read(NOTEBOOK, as_version=4))).split())
    for line in quick_start.splitlines():
        assert "".join(line.split()) in squeezed, line


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the kernel's own messages are not ours
def test_the_notebook_runs_and_shows_figures_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert "text/html" in kinds
    assert any("plotly" in kind for kind in kinds)
    assert any("RankTest" in str(output.get("data", {})) for output in shown)
