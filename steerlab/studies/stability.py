"""Is a learned vector the same with another seed or other problems, and how many problems does it need?

Nothing is chosen (one layer, a fixed number of epochs, alpha 1), so test effects have no selection bias. Vectors from fewer
problems take the same number of steps; subsets share no problem with the reference where there are enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from steerlab._checks import InputError
from steerlab._html import Plotted
from steerlab._progress import Stages, job
from steerlab.aft.aft import LearnedVector, learn_vectors, vectors_work
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.model import n_layers
from steerlab.steering.operators import Operator
from steerlab.steering.work import rows_of, steered
from steerlab.sweeps.effects import cosine_band, effect, mean_interval, points, score_vectors
from steerlab.sweeps.sweep import inert
from steerlab.tasks.problems import Problem, Task, check_task, drawn, in_both, shuffled_targets


@dataclass(frozen=True, eq=False)
class SeedStability(Plotted, figure="data_size_curve"):
    """Vectors learned with other seeds, from other problems and from permuted targets: cosines and test effects.

    Attributes:
        frame: one line a vector: name, kind ("seed": the reference's problems, another seed; "subset": other problems; "shuffled": the reference's
            with permuted targets), size (problems), epochs, norm, shared (share of its problems that the reference has, too), cosine (with the
            reference, which is the first line), n, baseline, accuracy, change, low, high (95%, Newcombe's paired interval), p (exact sign test),
            margin_change.
        pairs: one line a pair of one kind and size: kind, size, first, second, shared (share of the problems that both have), cosine.
        vectors: the vectors, in the order of the frame.
        layer: where.
        checks: did the interventions act.
    """

    frame: pd.DataFrame
    pairs: pd.DataFrame
    vectors: tuple[LearnedVector, ...]
    layer: int
    checks: pd.DataFrame

    @property
    def band(self) -> float:
        """95% of isotropic directions have a cosine within ± this."""
        return cosine_band(self.vectors[0].vector.shape[-1])

    def curve(self) -> pd.DataFrame:
        """One line a kind and size: vectors, mean cosine with the reference and change of accuracy, each with a 95% interval over vectors.

        Cosines are averaged as Fisher's z. Student's intervals say how far vectors differ; test problems are the same for all. `pair_cosine` is the median between two of them.
        """
        lines = []
        for (kind, size), part in self.frame.iloc[1:].groupby(["kind", "size"], sort=False):
            atanh = np.arctanh(part["cosine"].clip(-1 + 1e-12, 1 - 1e-12).to_numpy(float))  # Fisher's z, so that limits stay within ±1
            low, high = np.tanh([*mean_interval(atanh)]).tolist()
            both = self.pairs[(self.pairs["kind"] == kind) & (self.pairs["size"] == size)]["cosine"]
            line = {"kind": kind, "size": size, "vectors": len(part), "cosine": float(np.tanh(atanh.mean()))}
            line |= {"cosine_low": low, "cosine_high": high, "pair_cosine": float(both.median()) if len(both) else np.nan}
            line["norm"] = float(part["norm"].mean())
            low, high = mean_interval(part["change"].to_numpy(float))
            line |= {"change": round(float(part["change"].mean()), 12), "change_low": low, "change_high": high}
            lines.append(line | {"change_sd": float(part["change"].std(ddof=1))})
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        """How alike vectors are and how alike their effects, in a few sentences."""
        curve = self.curve()
        n, first = self.frame["n"].iloc[0], self.frame.iloc[0]
        half = 100 * float((self.frame["high"] - self.frame["low"]).mean()) / 2
        seeds = self.pairs[self.pairs["kind"] == "seed"]["cosine"]
        mine = self.frame[self.frame["kind"] == "seed"]["change"]
        said = [
            f"Layer {self.layer}. {len(mine)} seeds on the same {first['size']:.0f} problems: pairwise cosines {seeds.min():.3f} to {seeds.max():.3f}, test effects "
            f"{points(mine.min(), mine.max())} points (one effect on {n:.0f} problems is known to about ±{half:.1f})."
        ]
        subsets = curve[curve["kind"] == "subset"]
        for which in dict.fromkeys([0, len(subsets) - 1] if len(subsets) else []):
            row: Mapping[Any, Any] = subsets.iloc[which].to_dict()
            over = f" (95% interval over {row['vectors']} vectors {row['cosine_low']:.2f} to {row['cosine_high']:.2f})"
            over = over if np.isfinite(row["cosine_low"]) else ""
            spread = f" ({points(row['change_low'], row['change_high'])})" if np.isfinite(row["change_low"]) else ""
            said.append(
                f"From {row['size']} other problems: cosine with the reference {row['cosine']:.2f}{over}, test effect {points(row['change'])} points{spread}."
            )
        shuffled = curve[curve["kind"] == "shuffled"]
        if len(shuffled):
            found: Mapping[Any, Any] = shuffled.iloc[0].to_dict()
            said.append(
                f"From permuted targets, which mean nothing: cosine {found['cosine']:.2f} with the reference (median between two of them {found['pair_cosine']:.2f}), test "
                f"effect {points(found['change'])} points. "
                + ("What such vectors share with the reference is not about the task. " if found["cosine"] > self.band else "")
                + f"95% of random directions lie within ±{self.band:.2f}."
            )
        return " ".join(said)

    def warnings(self) -> list[str]:
        """What a reader must know: vectors that did nothing, training that broke off, problems in common."""
        said = inert(self.checks) + [line for vector in self.vectors for line in vector.warnings()]
        shared = self.frame.loc[self.frame["kind"] == "subset", "shared"]
        if len(shared) and shared.max() > 0:
            said.append(
                f"The train split is too small for subsets that share nothing with the reference (up to {100 * shared.max():.0f}% of their problems are its own), which "
                "raises their cosine with it."
            )
        return said

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        question = "Is a learned vector the same with another seed or other problems, and how many problems does it need?"
        caption = "Cosine with the reference and change of test accuracy, by number of training problems."
        tables = {
            "curve": ("Means over vectors, with 95% intervals over vectors.", self.curve()),
            "vectors": ("Every vector, with its paired interval on the test problems.", self.frame),
            "pairs": ("", self.pairs),
        }
        return self._page("Stability of learned vectors", question, caption, tables, directions=[self.vectors[0]])

    def __repr__(self) -> str:
        kinds = ", ".join(f"{kind}: {n}" for kind, n in self.frame["kind"].value_counts(sort=False).items())
        return f"SeedStability(layer={self.layer}, vectors {kinds}, {self.frame['n'].iloc[0]:.0f} test problems)"

    def summary(self) -> pd.DataFrame:
        """The curve: one line a kind and size."""
        return self.curve()


@job("sizes", "seeds", "subsets", "n_shuffled", "n_test", "epochs")
def seed_stability(
    model: Model,
    task: Task,
    *,
    rng: np.random.Generator,
    layer: int | None = None,
    sizes: Sequence[int] = (25, 50, 100, 200),
    seeds: int = 5,
    subsets: int = 4,
    n_shuffled: int = 4,
    n_test: int | None = None,
    epochs: int = 3,
    lr: float = 1e-2,
    batch_size: int = 4,
    operator: str | Operator = "add",
    progress: bool = False,
) -> SeedStability:
    """Vectors learned with other seeds and from other problems, compared by cosine and test effect.

    Args:
        task: its train problems are trained on, its test problems score.
        rng: the only source of chance: problems, seeds, permutations.
        layer: default the middle one.
        sizes: numbers of problems; the largest is the reference's.
        seeds: vectors of the reference's problems; a seed gives order and a small random start.
        subsets: vectors of each size from other problems.
        n_shuffled: vectors of the reference's problems with permuted targets.
        n_test: test problems; default all.
        epochs: of the largest size; smaller ones take so many more that the number of steps is the same.
        lr, batch_size, operator: see `steerlab.aft.aft.learn_vector`.

    Raises:
        ValueError: sizes that repeat or that the train split does not have, fewer than two seeds, or no subsets.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=40, n_validation=8, n_test=12)
        >>> found = sl.seed_stability(model, task, rng=np.random.default_rng(0), sizes=[4, 8], seeds=2, subsets=2, n_shuffled=1, epochs=1)
        >>> found.curve()[["kind", "size", "vectors"]].to_numpy().tolist()
        [['seed', 8, 1], ['subset', 4, 2], ['subset', 8, 2], ['shuffled', 8, 1]]
    """
    check_task(task)
    numbers = sorted(int(size) for size in sizes)
    if not numbers or numbers[0] < 1 or len(set(numbers)) < len(numbers) or numbers[-1] > len(task.train):
        raise InputError(f"sizes={list(sizes)}: give numbers from 1 to {len(task.train)} (the train problems), each once")
    if numbers[0] < batch_size:
        raise InputError(f"sizes={list(sizes)}: a step takes {batch_size} problems; use larger sizes, or a smaller batch_size")
    if seeds < 2 or subsets < 1 or n_shuffled < 0:
        raise InputError(
            f"seeds={seeds}, subsets={subsets}, n_shuffled={n_shuffled}; use at least 2 seeds and 1 subset (and 0 shuffled ones or more)"
        )
    if both := in_both(task.test, task.train):
        raise InputError(
            f"{len(both)} test problems stand in train, too, {both[0].id!r} first; what was learned there cannot be tested on them"
        )
    where = n_layers(model) // 2 if layer is None else layer
    order = drawn(task.train, len(task.train), rng=rng)
    reference, rest = order[: numbers[-1]], order[numbers[-1] :]
    steps = -(-len(reference) // batch_size)
    shared: dict[str, Any] = {"layers": [where], "lrs": lr, "batch_size": batch_size, "operator": operator}
    shared |= {"init": "random", "progress": progress}
    plan: list[tuple[str, list[Problem], list[int], int]] = [("seed", reference, _seeds(seeds, rng), epochs)]
    for size in numbers:
        more = max(1, round(epochs * steps / -(-size // batch_size)))
        plan += [("subset", part, _seeds(1, rng), more) for part in _parts(rest, reference, size, subsets, rng)]
    plan += [("shuffled", shuffled_targets(reference, rng=rng), _seeds(1, rng), epochs) for _ in range(n_shuffled)]
    tests = task.test if n_test is None else drawn(task.test, n_test, rng=rng, what="test problems")
    stages = Stages(len(plan) + 1, show=progress)
    if progress:
        how: dict[str, Any] = {"layers": [where], "operator": operator}
        made_of = list[Work]()
        for size in dict.fromkeys(len(which) for _, _, which, _ in plan):
            rows = sum(len(problems) * rounds for _, problems, which, rounds in plan if len(which) == size)
            times = rows / (len(reference) * epochs)
            made_of += vectors_work(model, reference, seeds=size, epochs=epochs, batch_size=batch_size, times=times, **how)
        n = sum(len(which) for _, _, which, _ in plan)
        made_of.append(steered(model, tests, (1 + n) * rows_of(model, tests), together=n, **how))
        forecast(model, made_of, show=True, extra=f" in {stages.total} stages")
    lines, vectors, ids = list[tuple[Any, ...]](), list[LearnedVector](), list[set[str]]()
    known = {p.id for p in reference}
    for kind, problems, which, rounds in plan:
        stages.next(f"learn: {kind}, {len(problems)} problems")
        for one in learn_vectors(model, problems, seeds=which, epochs=rounds, **shared):
            vectors.append(one)
            ids.append({p.id for p in problems})
            lines.append((f"{kind} {len(lines)}", kind, len(problems), rounds, one.norm, len(ids[-1] & known) / len(problems)))
    stages.next(f"test on {len(tests)} problems")
    done = score_vectors(model, tests, [(one, 1.0) for one in vectors], operator=operator, progress=progress, label="test")
    frame = pd.DataFrame(lines, columns=["name", "kind", "size", "epochs", "norm", "shared"])
    unit = torch.stack([one.vector.double() / one.vector.double().norm() for one in vectors])
    cosines = (unit @ unit.T).clamp(-1, 1).numpy()
    frame["cosine"] = cosines[0]
    frame = pd.concat([frame, pd.DataFrame([effect(done.baseline.frame, after) for after in done.frames])], axis=1)
    pairs = [
        (kind, size, frame["name"][i], frame["name"][j], len(ids[i] & ids[j]) / len(ids[i]), cosines[i, j])
        for (kind, size), part in frame.groupby(["kind", "size"], sort=False)
        for i, j in combinations(part.index, 2)
    ]
    table = pd.DataFrame(pairs, columns=["kind", "size", "first", "second", "shared", "cosine"])
    return SeedStability(frame, table, tuple(vectors), where, done.checks)


def _seeds(n: int, rng: np.random.Generator) -> list[int]:
    return list(rng.choice(2**31, n, replace=False).tolist())


def _parts(rest: Sequence[Problem], reference: Sequence[Problem], size: int, n: int, rng: np.random.Generator) -> list[list[Problem]]:
    """So many subsets: of the rest where it is large enough, else of all; without problems in common as long as they last."""
    pool = list(rest) if len(rest) >= size else [*rest, *reference]
    found: list[list[Problem]] = []
    while len(found) < n:
        order = [pool[i] for i in rng.permutation(len(pool))]
        found += [order[k * size : (k + 1) * size] for k in range(len(pool) // size)]
    return found[:n]
