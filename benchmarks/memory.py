"""Peak memory of a streamed activation cache, each measured in a process of its own.

python -m benchmarks.memory MODEL BACKEND PROMPTS LENGTH FOLDER
"""

import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import shapes
from benchmarks.machine import physical_cores

LENGTH = 24  # tokens a prompt: short, so that thousands take minutes; all alike, so that every batch is as large as the largest
AT_MOST = 1.10


@dataclass(frozen=True)
class Peak:
    """Peak memory of caching all layers at the last position, streamed to disk.

    Attributes:
        backend: ours.
        prompts: how many.
        mib: largest resident memory while caching, in MiB; mapped pages of the files that are written count.
        whole_mib: the same of the whole process, loading of the model included.
    """

    backend: str
    prompts: int
    mib: float
    whole_mib: float


def peaks(model: Path, backends: Sequence[str], prompts: Sequence[int]) -> list[Peak]:
    """Measure every backend at every number of prompts, each in a fresh process."""
    found = []
    for backend in backends:
        for n in prompts:
            with tempfile.TemporaryDirectory() as folder:
                words = [sys.executable, "-m", "benchmarks.memory", str(model), backend, str(n), str(LENGTH), str(Path(folder) / "cache")]
                done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            found.append(Peak(backend, n, *map(float, done.stdout.split()[-2:])))
            said = f"{found[-1].mib:.0f} MiB while caching, {found[-1].whole_mib:.0f} MiB in all"
            print(f"    ours ({backend}), {n} prompts: {said}", file=sys.stderr, flush=True)
    return found


def main(model: str, backend: str, prompts: int, length: int, folder: str) -> None:
    """Cache, and print the largest resident memory in MiB: while caching, and of the whole process."""
    import steerlab as sl

    torch.set_num_threads(physical_cores())
    loaded = sl.load_model(model, backend=backend, device="cpu")
    problems = shapes.random_problems(int(loaded.cfg.d_vocab), [length] * prompts, seed=4)
    loading = _peak_mib()
    _forget_peak()
    sl.cache_activations(loaded, problems, layers=range(int(loaded.cfg.n_layers)), positions="last", path=folder)
    caching = _peak_mib()
    print(caching, max(loading, caching))


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would keep the peak that was forgotten
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _forget_peak() -> None:
    """Loading a model takes more memory than running it, and would hide what caching takes; Linux can start anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
