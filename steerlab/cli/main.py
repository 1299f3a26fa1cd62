"""The `steerlab` command: `steerlab plan` writes the plan of a main job before its test problems are scored."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab.cli.options import Protocol
from steerlab.cli.run import run


@dataclass(frozen=True)
class Plan(Protocol):
    """Write the plan of a main job: data by SHA-256, candidates, measure, alternatives, level, controls, seed."""

    out: str | None = None  # file of the plan; plan.json by default, and one that is there stays


def plan(config: Plan) -> None:
    """Write the plan and print it."""
    model, task = config.load()
    made = sl.plan_experiment(model, task, **config.protocol())
    path = sl.save_plan(Path(config.out or "plan.json"), made)
    print(f"{made}\n\nfollow it   python analyses/random_control.py --plan {path}")


COMMANDS = {"plan": (plan, Plan)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first word names."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        known = "\n".join(f"  {name:<10}{(config.__doc__ or '').splitlines()[0]}" for name, (_, config) in COMMANDS.items())
        print(f"usage: steerlab COMMAND [OPTIONS]; steerlab COMMAND --help lists options\n\n{known}", file=sys.stderr)
        raise SystemExit(0 if words and words[0] in ("-h", "--help") else 2)
    command, config = COMMANDS[words[0]]
    run(command, config, words[1:])
