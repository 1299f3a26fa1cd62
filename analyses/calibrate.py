"""The false-positive rates of steerlab's tests, and their power.

Simulates true nulls and stated alternatives, and prints the rates of rejection with their Monte Carlo intervals. With --out the table is
written too; the one that the repository keeps is made by `make calibrate`.

    python analyses/calibrate.py --simulations 1000
    python analyses/calibrate.py --out data/calibration.md
"""

import time
from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab._files import writable_folder, write_text
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config:
    """How much to simulate."""

    simulations: int = 10_000  # of each scenario; slow ones take a stated share
    seed: int = 0  # of the simulations
    out: Path | None = None  # write the table here, too


def main(config: Config) -> int:
    """Simulate, print, and fail where a rate exceeds its level for no stated reason."""
    from steerlab.validation.calibration import CONFIDENCE
    from steerlab.validation.scenarios import NOT_SIMULATED

    if config.out is not None:
        writable_folder(config.out.parent)
    start = time.process_time()
    found = sl.calibrate(simulations=config.simulations, seed=config.seed, progress=True)
    minutes = (time.process_time() - start) / 60
    without = "\n".join(f"| `{name}` | {reason} |" for name, reason in NOT_SIMULATED.items())
    table = f"""# Calibration

`make calibrate` makes this table ({config.simulations:,} simulations, seed {config.seed}). Rates stand with their {100 * CONFIDENCE:g}% Monte Carlo
intervals. A test holds its level if the interval does not lie above it. An interval is used as a test of the truth, which it misses or not.
It took {minutes:.0f} minutes of processor time.

Rows "as before" are what a protocol gets wrong whose controls have no choice, that takes problems as independent, counts churn as an
effect, or compares with isotropic directions alone. What the right one costs is in the power of the same settings, and in the share of
the 99 planned controls that were drawn before enough of them were as good. Against 99 controls of two kinds, corrected p-values of 0.01
cannot be reached, so that no effect is called specific at that level.

{found.to_markdown()}
## Not simulated

| procedure | why not |
| --- | --- |
{without}
"""
    print(table)
    if config.out is not None:
        write_text(config.out, table)
    exceeding = found.exceeding()
    print(f"{len(exceeding)} rates above their level without a reason")
    if config.out is not None:
        print(f"report      {config.out}")
    return int(len(exceeding) > 0)


if __name__ == "__main__":
    raise SystemExit(run(main, Config))
