"""Seconds that the functions of steerlab.statistics take for so many problems.

python -m benchmarks.statistics 100000
"""

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np

import steerlab.statistics as st


def works(n: int) -> dict[str, Callable[[], object]]:
    """What is timed, for n problems."""
    rng = np.random.default_rng(0)
    before = rng.random(n) < 0.5
    after = before ^ (rng.random(n) < 0.1)
    was, groups, alphas = rng.normal(size=n), rng.integers(0, n // 5, n), np.arange(-3.0, 4.0)
    now = was + rng.normal(0.01, 1, n)
    right, margins = (rng.random((n, 7)) < 0.5).astype(int), rng.normal(size=(n, 7))
    return {
        "sign_test": lambda: st.sign_test(before, after),
        "paired_interval, groups": lambda: st.paired_interval(before, after, groups=groups),
        "wilcoxon_test, interval": lambda: st.wilcoxon_test(was, now).interval(),
        "sign_flip_test, outcomes": lambda: str(st.sign_flip_test(before, after, rng=rng)),
        "sign_flip_test, values": lambda: str(st.sign_flip_test(was, now, rng=rng)),
        "sign_flip_test, groups": lambda: str(st.sign_flip_test(was, now, rng=rng, groups=groups)),
        "equivalence_test, outcomes": lambda: str(st.equivalence_test(before, after, margin=0.02)),
        "bootstrap, mean": lambda: str(st.bootstrap(was, rng=rng)),
        "bootstrap, mean, groups": lambda: str(st.bootstrap(was, rng=rng, groups=groups)),
        "max_statistic_test, 7 cells, outcomes": lambda: str(st.max_statistic_test(before, right == 1, rng=rng)),
        "max_statistic_test, 7 cells, values": lambda: str(st.max_statistic_test(was, margins, rng=rng)),
        "trend_test, Page": lambda: st.trend_test(alphas, right, rng=rng, null="permutation"),
        "dose_response, outcomes": lambda: str(st.dose_response(alphas, right, rng=rng)),
        "dose_response, values": lambda: str(st.dose_response(alphas, margins, rng=rng)),
        "split_half_cosines": lambda: str(st.split_half_cosines(margins, margins + 0.1, rng=rng)),
        "effective_size": lambda: st.effective_size(margins),
        "smallest_detectable_change": lambda: st.smallest_detectable_change(n, discordant=0.1),
    }


def main() -> None:
    """Print a line a function."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for name, work in works(n).items():
        start = perf_counter()
        work()
        print(f"{name:<40}{n:>10,}{perf_counter() - start:>9.2f} s", flush=True)


if __name__ == "__main__":
    main()
