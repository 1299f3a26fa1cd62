"""Each script, on the embedded model and on a model and data that are not ours.

The main job runs once as a process of its own, as a user runs it; the rest run in this one, because every process spends
seconds on importing torch.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import steerlab as sl
from steerlab.cli.run import parse, run
from steerlab.studies import multiverse as worlds

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
SMALL = ["--limit", "16", "--alphas", "-3,0,1"]
FEW = ["--train", "16", "--validation", "12", "--test", "12", "--epochs", "1", "--layers", "4"]
METHODS = ["--methods", "mean_difference,multilayer_aft,prompt"]
MAIN = ["random_control", *SMALL, "--controls", "5", "--same-cell", "5", "--layers", "2,3"]


@dataclass(frozen=True)
class Done:
    """What a script left: its exit code and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """``script(name, *words, cwd=…)`` runs a script in this process."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "analyses"), *sys.path])
    for kind, embedded in (("load_model", "tiny-arithmetic"), ("load_task", "arithmetic")):
        monkeypatch.setattr(sl, kind, loaded_once(kind, embedded))

    def call(name: str, *words: str, cwd: Path) -> Done:
        module, code = loaded(name), 0
        with monkeypatch.context() as here:
            here.chdir(cwd)
            try:
                run(module.main, module.Config, words)
            except SystemExit as stop:
                code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


@cache
def loaded_once(kind: str, embedded: str) -> Callable[..., object]:
    """A loading function that gives the same embedded model or problems to all who ask in the same way; scripts change neither."""
    load = getattr(sl, kind)
    kept = cache(load)
    return lambda name, **options: (kept if name == embedded else load)(name, **options)


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "analyses" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def main_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    cwd = tmp_path_factory.mktemp("main")
    command = [sys.executable, str(ROOT / "analyses" / f"{MAIN[0]}.py"), *MAIN[1:], "--out", "run"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return cwd / "run", done.stdout


def test_the_main_job_prints_what_a_reader_needs(main_run: tuple[Path, str]) -> None:
    for words in (
        "To raise accuracy: ",
        "To lower accuracy: ",
        "Against 5 random pipelines",
        "Corrected for 3 tests (Holm)",
        "with 80% power",
    ):
        assert words in main_run[1]
    for words in ("baseline", "95% interval", "norm", "became right / wrong", "the same cell", "side effects at layer", "report"):
        assert words in main_run[1]


def test_the_main_job_writes_results_direction_provenance_and_report(main_run: tuple[Path, str]) -> None:
    folder = main_run[0]
    results = pd.read_parquet(folder / "results.parquet")
    assert set(results["split"]) == {"train", "validation", "test"}
    controls = results.query("stage == 'control' and is_control")
    cells = controls.groupby(["layer", "alpha"])["direction"].nunique()
    assert cells.tolist() == [5] * len(cells)
    kinds = pd.read_parquet(folder / "pipelines.parquet").query("is_control").groupby(["kind", "goal"]).size()
    assert kinds.tolist() == [5] * 4
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["config"]["seed"] == 0
    assert provenance["model"]["name"] == "tiny-arithmetic"
    assert len(provenance["model"]["weights_sha256"]) == 64
    direction = sl.load_direction(folder / "direction.safetensors")
    assert direction.layer == sl.load_experiment(folder)[0].layer
    assert direction.model["processing"] == "raw"
    page = (folder / "report.html").read_text()
    assert all(line[:60] in page for line in provenance["answer"].splitlines())
    assert len(page) < 6_000_000


def test_no_machine_path_or_date_gets_into_a_run(main_run: tuple[Path, str]) -> None:
    text = (main_run[0] / "provenance.json").read_text() + (main_run[0] / "report.html").read_text()
    assert str(main_run[0].parent) not in text
    assert str(ROOT) not in text


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(script, main_run: tuple[Path, str], tmp_path: Path) -> None:
    done = script(*MAIN, "--out", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "again") == digests(main_run[0])


@pytest.mark.slow
def test_another_seed_gives_other_controls(script, main_run: tuple[Path, str], tmp_path: Path) -> None:
    done = script(*MAIN, "--seed", "1", "--out", "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "other")["results.parquet"] != digests(main_run[0])["results.parquet"]


def test_a_run_is_read_back_without_the_model(main_run: tuple[Path, str]) -> None:
    experiment, provenance = sl.load_experiment(main_run[0])
    assert sl.Significance(experiment).answer() == provenance["answer"]
    assert sl.Significance(experiment).warnings() == provenance["warnings"]


def test_the_significance_report_is_made_from_one_and_from_two_runs(script, main_run: tuple[Path, str], tmp_path: Path) -> None:
    one = script("significance_report", str(main_run[0]), "--out", "one.html", cwd=tmp_path)
    other = tmp_path / "other"
    shutil.copytree(main_run[0], other)
    two = script("significance_report", str(main_run[0]), str(other), "--out", "two.html", cwd=tmp_path)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert (tmp_path / "one.html").read_text() == (main_run[0] / "report.html").read_text()
    assert "after correction for all of them" in (tmp_path / "two.html").read_text()
    again = script("significance_report", str(other), str(other), cwd=tmp_path)
    assert again.returncode == 2
    assert "a run is given twice" in again.stderr


@pytest.mark.parametrize(
    ("name", "words", "table"),
    [
        ("alpha_sweep", [*SMALL, "--layer", "3"], "accuracy"),
        ("layer_alpha_heatmap", [*SMALL, "--layers", "1,3"], "accuracy"),
        ("direction_heatmap", ["--limit", "60"], "norms"),
        pytest.param(
            "context_vectors",
            ["--limit", "24", "--n-train", "8", "--seeds", "0,1", "--lrs", "0.01", "--epochs", "1"],
            "kinds",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "compare_methods",
            ["--limit", "16", "--controls", "3", "--layers", "3", "--epochs", "1", "--kls", "0.01", *METHODS],
            "pairs",
            marks=pytest.mark.slow,
        ),
        ("critical_tokens", ["--limit", "20"], "margins"),
        ("failure_analysis", SMALL, "groups"),
        (
            "multiverse",
            [
                "--limit",
                "24",
                "--layers",
                "2,3",
                "--estimators",
                "mean_difference",
                "--positions",
                "last",
                "--permutations",
                "3",
                "--tasks",
                "story,equation",
            ],
            "specifications",
        ),
        pytest.param(
            "transfer",
            [*FEW, "--random", "3", "--shuffled", "3", "--shuffled-learned", "1", "--tasks", "story,largest"],
            "transfer",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "universal_booster",
            [*FEW, "--random", "3", "--left-out", "largest", "--tasks", "story,equation,largest"],
            "rivals",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "seed_stability",
            ["--sizes", "4,8", "--seeds", "2", "--subsets", "2", "--shuffled", "1", "--test", "20", "--epochs", "1"],
            "curve",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "adaptive_aft",
            ["--repetitions", "1", "--train", "8", "--fresh", "20", "--attempts", "1", "--epochs", "1", "--extend", "0"],
            "candidates",
            marks=pytest.mark.slow,
        ),
        ("token_magnitudes", ["--limit", "40", "--layers", "1,3"], "magnitudes"),
        pytest.param("eas", ["--problems", "60", "--repeats", "1", "--updates", "5"], "variants", marks=pytest.mark.slow),
    ],
)
def test_every_other_script_writes_a_run_folder_with_a_report(script, name: str, words: list[str], table: str, tmp_path: Path) -> None:
    done = script(name, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tasks = words[words.index("--tasks") + 1].split(",") if "--tasks" in words else []
    folder = tmp_path / "runs" / "-".join([name, "tiny-arithmetic-arithmetic", *tasks])
    assert str(folder.relative_to(tmp_path) / "report.html") in done.stdout
    assert len(pd.read_parquet(folder / f"{table}.parquet")) > 0
    assert "<h1" in (folder / "report.html").read_text()


def test_a_grid_of_models_and_datasets_is_taken_up_again_and_records_failures(script, tmp_path: Path) -> None:
    sizes = ["--train", "12", "--validation", "8", "--test", "16", "--layers", "3,4", "--epochs", "1", "--controls", "3", "--out", "grid"]
    words = ["--datasets", "arithmetic:bare,arithmetic:riddles", *sizes]
    done = script("universality", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "grid"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["failed"] == 1
    assert "variant='riddles'" in summary["results"]["tiny-arithmetic"]["arithmetic:riddles"]["error"]
    assert len(pd.read_parquet(folder / "cells.parquet")) == 2
    assert "riddles" in (folder / "report.html").read_text()
    before = digests(folder)
    again = script("universality", *words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert digests(folder) == before
    other = script("universality", *words, "--seed", "1", cwd=tmp_path)
    assert other.returncode == 2
    assert "is of another grid: seed was 0 and is 1 now" in other.stderr
    assert digests(folder) == before


def test_a_multiverse_is_taken_up_where_it_was_interrupted_and_comes_to_the_same_bytes(script, tmp_path: Path, monkeypatch) -> None:
    few = ["--limit", "24", "--layers", "3", "--layer-rules", "middle", "--estimators", "mean_difference", "--positions", "last"]
    words = ["multiverse", *few, "--permutations", "12"]
    done = script(*words, "--out", "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    score, calls = worlds.score_vectors, []

    def stopped(*given: object, **options: object) -> object:
        calls.append(given)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(*given, **options)

    with monkeypatch.context() as here:
        here.setattr(worlds, "score_vectors", stopped)
        assert script(*words, "--out", "halves", cwd=tmp_path).returncode == 130
    assert len(list((tmp_path / "halves.parts" / "permutations").iterdir())) == 2
    other = script(*words, "--seed", "1", "--out", "halves", cwd=tmp_path)
    assert other.returncode == 2
    assert "halves.parts is of another multiverse: seed was 0 and is 1 now" in other.stderr
    done = script(*words, "--out", "halves", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halves", "whole"]


def test_a_direction_found_by_the_main_job_can_be_swept(script, main_run: tuple[Path, str], tmp_path: Path) -> None:
    done = script("alpha_sweep", *SMALL, "--direction", str(main_run[0] / "direction.safetensors"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_direction_is_used_in_a_variant_of_its_model_only_when_asked_for(script, main_run: tuple[Path, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "steerlab" / "embedded" / "tiny-arithmetic", tmp_path / "tuned"))
    weights = load_file(folder / "model.safetensors")
    save_file({name: 1.01 * value for name, value in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    given = [*SMALL, "--model", str(folder), "--direction", str(main_run[0] / "direction.safetensors"), "--alphas", "1"]
    refused = script("alpha_sweep", *given, cwd=tmp_path)
    assert refused.returncode == 2
    assert "was found in another model than this one ('tiny-arithmetic' and 'tuned')" in refused.stderr
    done = script("alpha_sweep", *given, "--other-model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.rglob("directions/*.safetensors")
    assert "was found in another model" in (written.parents[1] / "report.html").read_text()
    assert sl.load_direction(written).method["moved_from"]["name"] == "tiny-arithmetic"


def test_an_earlier_run_is_kept_unless_it_is_to_be_replaced(script, main_run: tuple[Path, str], tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(main_run[0], tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = digests(tmp_path)
    with monkeypatch.context() as here:
        here.setattr("steerlab.load_task", lambda *_, **__: pytest.fail("work was done"))
        kept = script(*MAIN, "--out", "run", cwd=tmp_path)
    assert kept.returncode == 2
    assert kept.stderr.startswith("error: run holds a run already; choose another folder (--out), or replace the run (--overwrite")
    assert len(kept.stderr.strip().splitlines()) == 1
    assert digests(tmp_path) == before
    (tmp_path / "run" / "results.parquet").write_bytes(b"damaged")
    replaced = script(*MAIN, "--out", "run", "--overwrite", cwd=tmp_path)
    assert replaced.returncode == 0, replaced.stderr
    counted = digests(tmp_path).keys() - before.keys()
    assert counted == {"test-sets.json"}
    assert {name: digest for name, digest in digests(tmp_path).items() if name not in counted} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "test-sets.json"]


def test_a_run_folder_is_held_while_its_script_works(script, tmp_path: Path) -> None:
    seen: list[Done] = []

    def second(*_, **__) -> None:
        with ThreadPoolExecutor(1) as other, pytest.raises(FileExistsError) as refused:
            other.submit(lambda: loaded("alpha_sweep").main(loaded("alpha_sweep").Config(out="run", overwrite=True))).result()
        seen.append(refused)
        raise sl.InputError("enough")

    with pytest.MonkeyPatch.context() as here:
        here.setattr("steerlab.load_task", second)
        done = script("random_control", "--out", "run", cwd=tmp_path)
    assert f"run is being written by process {os.getpid()}" in str(seen[0].value)
    assert (done.returncode, done.stderr) == (2, "error: enough\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words", "folder"),
    [
        ("random_control", [], "random_control-tiny-arithmetic-arithmetic"),
        ("random_control", ["--form", "numeric"], "random_control-tiny-arithmetic-arithmetic-numeric"),
        (
            "random_control",
            ["--model", "EleutherAI/pythia-410m", "--task", "blimp", "--paradigm", "anaphor_gender_agreement"],
            "random_control-pythia-410m-blimp-anaphor_gender_agreement",
        ),
        ("random_control", ["--task", "blimp", "--task-path", "there/passive_1.jsonl"], "random_control-tiny-arithmetic-blimp-passive_1"),
        (
            "random_control",
            ["--task", "blimp", "--task-path", "there/blimp", "--paradigm", "passive_1"],
            "random_control-tiny-arithmetic-blimp-passive_1",
        ),
        ("random_control", ["--task", "jsonl", "--task-path", "my file!.jsonl"], "random_control-tiny-arithmetic-jsonl-my_file"),
        ("alpha_sweep", ["--direction", "there/truth.safetensors"], "alpha_sweep-tiny-arithmetic-arithmetic-truth"),
        ("direction_heatmap", ["--direction", "there/truth.safetensors"], "direction_heatmap-truth"),
        ("failure_analysis", ["--run", "runs/random_control-gpt2-svamp"], "failure_analysis-random_control-gpt2-svamp"),
        ("transfer", ["--tasks", "gsm8k=a/b.jsonl,story"], "transfer-tiny-arithmetic-arithmetic-gsm8k-b-story"),
        ("random_control", ["--out", "mine/here"], "mine/here"),
    ],
)
def test_a_run_folder_is_named_by_what_is_run(script, name: str, words: list[str], folder: str) -> None:
    config = parse(loaded(name).Config, words)
    assert config.folder(name) == (Path(folder) if "--out" in words else Path("runs") / folder)


def test_the_name_of_a_run_folder_is_never_too_long_and_differs_where_the_tasks_do(script) -> None:
    many = ["a" * 30 + str(i) for i in range(20)]
    names = [parse(loaded("transfer").Config, ["--tasks", ",".join(tasks)]).folder("transfer").name for tasks in (many, many[:-1])]
    assert max(map(len, names)) <= 120
    assert names[0] != names[1]


SCRIPTS = [p.stem for p in sorted((ROOT / "analyses").glob("*.py"))]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_explains_each_script_and_every_option_with_its_default(script, name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    done = script(name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    commands = [line.strip() for line in loaded(name).__doc__.splitlines() if "python analyses/" in line]
    assert commands
    assert set(commands) <= {line.strip() for line in done.stdout.splitlines()}
    text = re.sub(r"[\s│|]+", " ", done.stdout)
    options = [field.name.replace("_", "-") for field in fields(loaded(name).Config) if field.default is not MISSING]
    assert len(options) > 0
    for option in [*options, "debug"]:
        found = re.search(rf" --{option}(?:, --no-{option}| [A-Z,…]+| \{{.*?\}}) (.*?)\(default: ", text)
        assert found, f"--{option} is not in {text}"
        assert found[1].strip(), f"--{option} has no help"


SHOW_HELP = """
import runpy, sys
for sys.argv in [[script, "--help"] for script in sys.argv[1:]]:
    sys.path[0] = sys.argv[0].rpartition("/")[0]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        assert stop.code == 0, sys.argv
    slow = [name for name in ("torch", "transformers", "transformer_lens", "pandas", "plotly", "sklearn") if name in sys.modules]
    assert not slow, (sys.argv, slow)
"""


def test_no_script_imports_torch_or_pandas_to_show_its_help() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SHOW_HELP, *(str(ROOT / "analyses" / f"{name}.py") for name in SCRIPTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(SCRIPTS)


BAD = {
    "unknown model": (["--model", "no-such-model"], "no-such-model"),
    "missing directory": (["--model", "./nowhere"], "no such directory"),
    "unknown task": (["--task", "riddles"], "riddles"),
    "missing task file": (["--task", "gsm8k", "--task-path", "nowhere.jsonl"], "nowhere.jsonl"),
    "layer out of range": (["--layers", "99"], "layer=99"),
    "no controls": (["--controls", "0"], "n_controls=0"),
    "alpha is not a number": (["--alphas=0,-1,nan"], "not a finite number"),
    "no suppression": (["--alphas=0,1"], "negative"),
    "unknown positions": (["--positions", "middle"], "positions='middle'"),
    "unknown scorer": (["--scorer", "guess"], "scorer='guess'"),
    "unknown operator": (["--operator", "multiply"], "operator='multiply'"),
    "prompt beyond the context": (["--task", "jsonl", "--task-path", "long.jsonl"], "context of"),
    "choice of several tokens": (["--task", "jsonl", "--task-path", "several.jsonl", "--scorer", "choice"], "is 2 tokens"),
    "malformed line": (["--task", "jsonl", "--task-path", "broken.jsonl"], "broken.jsonl"),
    "output below a file": (["--out", "long.jsonl/run"], "long.jsonl"),
    "output that is not a run": (["--out", "full"], "full"),
    "output that is not a run, to be replaced": (["--out", "full", "--overwrite"], "full exists and is not a run of ours"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_gets_one_clear_line_and_leaves_nothing(script, case: str, tmp_path: Path) -> None:
    words, said = BAD[case]
    rows = [{"prompt": "Tom has " * 200 + f"{i} .", "target": " A", "choices": [" A", " B"]} for i in range(20)]
    (tmp_path / "long.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "several.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"Tom has {i} .", "target": 0, "choices": [" A B", " C D"]}) for i in range(20))
    )
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "target": " A", "choices": [" A", " B"]}\n{oops\n')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    before = digests(tmp_path)
    done = script("random_control", "--limit", "20", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert said in last
    assert "Traceback" not in done.stderr
    assert digests(tmp_path) == before


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared folder with stories260K and BLiMP beside the checkout")
def test_backends_give_the_same_predictions_on_a_model_and_data_that_are_not_ours(
    script, backends: tuple[str, ...], tmp_path: Path
) -> None:
    data = SHARED / "datasets" / "blimp" / "anaphor_gender_agreement.jsonl"
    model = SHARED / "models" / "stories260K"
    frames = []
    for backend in backends:
        words = ["--model", str(model), "--task", "blimp", "--task-path", str(data), "--backend", backend, "--out", backend]
        done = script(*MAIN[:1], *words, "--limit", "60", "--controls", "3", "--layers", "2", "--alphas=-2,0,1", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        frames.append(pd.read_parquet(tmp_path / backend / "results.parquet"))
    for other in frames[1:]:
        keys = ["split", "stage", "layer", "alpha", "direction", "problem_id", "prediction", "correct"]
        pd.testing.assert_frame_equal(frames[0][keys], other[keys])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared folder with stories260K and BLiMP beside the checkout")
def test_transfer_between_paradigms_runs_on_a_model_and_data_that_are_not_ours(script, tmp_path: Path) -> None:
    paradigms = "anaphor_gender_agreement,determiner_noun_agreement_1"
    data = ["--model", str(SHARED / "models" / "stories260K"), "--task", "blimp", "--task-path", str(SHARED / "datasets" / "blimp")]
    done = script(
        "transfer", *data, "--tasks", paradigms, *FEW, "--random", "3", "--shuffled", "3", "--shuffled-learned", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(tmp_path / "runs" / f"transfer-stories260K-blimp-{paradigms.replace(',', '-')}" / "transfer.parquet")
    assert sorted(set(found["target"])) == sorted(paradigms.split(","))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "story,story"], "each once"),
        (["--tasks", "story,poem"], "variant='poem'"),
        (["--task", "gsm8k", "--tasks", "x,y"], "no variants"),
    ],
)
def test_bad_lists_of_tasks_get_one_clear_line(script, words: list[str], said: str, tmp_path: Path) -> None:
    done = script("transfer", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
