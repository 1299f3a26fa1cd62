"""The benchmark runs, compares answers, and writes its table whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(out: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--threads", "1", "--out", str(out), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_smoke_run_writes_a_table_in_which_all_answers_agree(tmp_path, backends):
    done = bench(tmp_path, "--rows", "tiny-grid")
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.md"]
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    comparisons = [one for row in written["rows"] for one in row["comparisons"]]
    assert comparisons
    assert all(one["different"] == 0 and one["n"] > 0 for one in comparisons)
    table = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "A smoke run" in table
    assert all(f"ours ({backend})" in table for backend in backends)


@pytest.mark.slow
def test_an_unknown_device_is_named_and_leaves_nothing(tmp_path):
    done = bench(tmp_path, "--llama", "int8")
    assert done.returncode != 0
    assert "llama=int8; use float32, bfloat16 or both" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
