"""Small models run on one thread, because beside another job several take many times as long."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab import _progress
from steerlab.models import threads
from steerlab.models.threads import allowed_cores, on_suitable_threads, suitable_threads, threads_for


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch):
    """A machine of four cores, on which torch takes four threads by itself."""
    before = torch.get_num_threads()
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "own_numbers", lambda: {4})
    monkeypatch.setattr(threads, "allowed_cores", lambda: 3)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def sized(width: int, mlp: int | None, device: str = "cpu") -> SimpleNamespace:
    """What counts of a model."""
    return SimpleNamespace(
        cfg=SimpleNamespace(d_model=width, d_mlp=mlp), parameters=lambda: iter([SimpleNamespace(device=torch.device(device))])
    )


def test_a_small_model_takes_one_thread_and_gives_the_others_back(tiny_model, backend):
    with suitable_threads(tiny_model("llama", backend)):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_threads_come_back_after_an_error(tiny_model, backend):
    with pytest.raises(ZeroDivisionError), suitable_threads(tiny_model("llama", backend)):
        1 / 0  # noqa: B018 - what breaks off
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("width", "mlp", "wanted"),
    [(64, 172, 1), (128, 384, 1), (256, 768, 1), (256, 1024, 3), (512, 2048, 3), (768, None, 3), (256, None, 1), (768, 3072, 3)],
)
def test_a_large_model_takes_what_cores_there_are(width, mlp, wanted):
    assert threads_for(sized(width, mlp), 4) == wanted


def test_a_choice_of_the_user_stands(monkeypatch):
    small = sized(64, 172)
    assert threads_for(small, 2) == 2  # torch.set_num_threads(2)
    assert threads_for(small, 7) == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_for(small, 4) == 4


def test_a_gpu_and_what_is_no_model_are_left_alone():
    assert threads_for(sized(64, 172, "cuda"), 4) == 4
    assert threads_for("a path", 4) == threads_for(None, 4) == 4
    with pytest.raises(sl.InputError):
        sl.evaluate("a path", [sl.Problem(id="a", prompt="1", target="2")])


def test_everything_that_runs_a_model_does_it_on_suitable_threads(toy_model, backend, monkeypatch):
    """Each pass of the model looks at how many threads there are."""
    model, task = toy_model(backend), sl.load_task("arithmetic", limit=6)
    problems, direction = task.train, sl.Direction(torch.ones(model.cfg.d_model), layer=1)
    texts = [problem.prompt for problem in problems]
    calls = {
        "evaluate": lambda: sl.evaluate(model, problems),
        "cache": lambda: sl.cache_activations(model, problems, layers=[1]),
        "sweep": lambda: sl.sweep(model, problems, direction, alphas=[-1, 1]),
        "side effects": lambda: sl.side_effects(model, direction, texts, alphas=[1]),
        "preview": lambda: sl.preview(model, problems, direction, alphas=[1]),
        "magnitudes": lambda: sl.token_magnitudes(model, problems, layers=[1]),
        "learn": lambda: sl.learn_vector(model, problems, layer=1, epochs=1, batch_size=2),
        "critical tokens": lambda: sl.critical_tokens(model, problems, direction, alpha=1.0),
        "stream": lambda: sl.run_eas(model, problems, layer=1, rng=np.random.default_rng(0)),
    }
    for name, call in calls.items():
        seen: set[int] = set()
        handle = model.embed.register_forward_pre_hook(lambda *_, seen=seen: seen.add(torch.get_num_threads()))
        try:
            call()
        finally:
            handle.remove()
        assert seen == {1}, name
        assert torch.get_num_threads() == 4, name


def test_the_number_of_threads_is_said_where_a_job_is_forecast(capsys):
    on_suitable_threads(lambda model: _progress.say_forecast(1000, 120))(sized(64, 172))
    _progress.say_forecast(1000, 120)
    assert capsys.readouterr().err.splitlines() == [
        "1,000 runs, about 2 minutes on this machine with 1 of 4 threads (OMP_NUM_THREADS sets another number)",
        "1,000 runs, about 2 minutes on this machine",
    ]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the files of a container say."""

    files: dict[str, str]
    own: str
    cores: int


@pytest.mark.parametrize(
    "limits",
    [
        Limits({}, "0::/\n", 8),
        Limits({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        Limits({"cpu.max": "200000 100000\n"}, "0::/\n", 2),
        Limits({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
        Limits({"jobs/mine/cpu.max": "350000 100000\n"}, "0::/jobs/mine\n", 3),
        Limits({"jobs/cpu.max": "200000 100000\n", "jobs/mine/cpu.max": "max 100000\n"}, "1:cpu:/x\n0::/jobs/mine\n", 2),
        Limits({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n", 4),
        Limits({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n", 8),
        Limits({"cpu.max": "nonsense"}, "", 8),
    ],
)
def test_cores_are_those_that_the_container_may_use(tmp_path: Path, monkeypatch, limits):
    monkeypatch.setattr(threads, "_affinity", lambda: 8)
    for name, text in limits.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(limits.own)
    assert allowed_cores(root=tmp_path, own=tmp_path / "own") == limits.cores


def test_without_such_files_the_affinity_counts(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(threads, "_affinity", lambda: 8)
    assert allowed_cores(root=tmp_path, own=tmp_path / "none") == 8
