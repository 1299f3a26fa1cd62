"""The audit script runs as a user runs it, and the kept audit is what it writes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "data" / "published"


def run_script(cwd: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "analyses" / "published_audit.py"), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)


def test_the_kept_audit_is_what_the_script_writes_and_says(tmp_path: Path) -> None:
    done = run_script(tmp_path, "--out", "here")
    assert done.returncode == 0, done.stderr
    for name in ("audit.md", "audit.csv"):
        written, kept = ((folder / name).read_text(encoding="utf-8") for folder in (tmp_path / "here", KEPT))
        assert written == kept, f"{name} is not up to date; run python analyses/published_audit.py --out data/published"
    assert max(map(len, done.stdout.splitlines())) <= 120
    for words in ("gpt2_codi_steering: ", "does not follow: ", "cannot be checked: ", "t(4) = 2.56", "in all", "claims: "):
        assert words in done.stdout
    assert str(ROOT) not in (tmp_path / "here" / "audit.md").read_text(encoding="utf-8")


def test_a_folder_without_claims_is_named_in_one_line(tmp_path: Path) -> None:
    done = run_script(tmp_path, "--folder", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere")
    assert "claims.csv is not there; give a folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
