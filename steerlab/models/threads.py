"""How many CPU threads a model's passes use: one for a small model, and never more than the cores of this process.

The threads of a product wait for the slowest of them, so a small product beside another job is several times as slow on two threads
as on one. The number depends on the model and the machine, not on how busy it is, because another number may round otherwise.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from steerlab._progress import noting

P = ParamSpec("P")
R = TypeVar("R")

SMALL = 1 << 18  # values of a block's largest matrix, below which one thread is used
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def suitable_threads(model: Any) -> Iterator[None]:
    """While this lasts, torch uses no more threads than suit the model; afterwards as many as before, also after an error.

    Who has set OMP_NUM_THREADS or MKL_NUM_THREADS, or has given `torch.set_num_threads` another number than torch takes by itself, has chosen,
    and nothing is changed. The same goes for models on a GPU.

    Args:
        model: a TransformerLens model.
    """
    import torch

    before = torch.get_num_threads()
    wanted = threads_for(model, before)
    if wanted >= before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        with noting(f" with {wanted} of {before} threads (OMP_NUM_THREADS sets another number)"):
            yield
    finally:
        torch.set_num_threads(before)


def on_suitable_threads(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator for functions that run the model that is their first argument: they do it under `suitable_threads`."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with suitable_threads(args[0] if args else kwargs.get("model")):
            return function(*args, **kwargs)

    return call


def threads_for(model: Any, before: int) -> int:
    """How many threads suit a model, at most as many as torch uses now.

    Args:
        model: a TransformerLens model; anything else leaves the number as it is.
        before: how many torch uses.
    """
    width = getattr(getattr(model, "cfg", None), "d_model", None)
    if not isinstance(width, int) or next(model.parameters()).device.type != "cpu" or _chosen(before):
        return before
    largest = width * max(int(getattr(model.cfg, "d_mlp", None) or 0), width)
    return min(before, 1 if largest < SMALL else allowed_cores())


def _chosen(number: int) -> bool:
    """Whether the number of threads is the user's choice."""
    return any(os.environ.get(name) for name in VARIABLES) or number not in own_numbers()


def own_numbers() -> set[int]:
    """What torch takes by itself: all cores that the process may run on or, where two threads of a core count as two, half of them."""
    return {n for cores in (os.cpu_count() or 1, _affinity()) for n in (cores, cores // 2)}


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed_cores(*, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may use: by its affinity and, in a container, by its share of processor time; at least 1.

    Args:
        root: where the limits of containers are.
        own: which of them is this process's.
    """
    cores = float(_affinity())
    try:
        parts = own.read_text().split("0::", 1)[1].split("\n", 1)[0].strip("/").split("/")
    except (OSError, IndexError):
        parts = []
    for depth in range(len(parts) + 1):
        quota = _numbers(root.joinpath(*parts[:depth]) / "cpu.max")
        if len(quota) == 2:
            cores = min(cores, quota[0] / quota[1])
    older = _numbers(root / "cpu" / "cpu.cfs_quota_us") + _numbers(root / "cpu" / "cpu.cfs_period_us")
    if len(older) == 2 and older[0] > 0:
        cores = min(cores, older[0] / older[1])
    return max(1, int(cores))


def _numbers(file: Path) -> list[float]:
    """The numbers in a file; none where there is no limit ("max"), or no file."""
    try:
        return [float(word) for word in file.read_text().split()]
    except (OSError, ValueError):
        return []
