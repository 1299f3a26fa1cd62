"""The stages of the main protocol and the runs of each, counted before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from steerlab.models.backends import Model
from steerlab.models.forecasts import Work
from steerlab.steering.options import Acting
from steerlab.steering.work import on_texts, rows_of, steered, unsteered
from steerlab.tasks.problems import Task

SEARCH = 6  # passes over the texts that a search for controls of equal KL takes, about


@dataclass(frozen=True)
class Workload:
    """Runs of the stages of the main job, in their order.

    Attributes:
        train: rows of the train split, each run once.
        validation: the sweep that is chosen on.
        test: the sweep of the chosen layer.
        controls: random directions at one of two coefficients.
        effects: side effects.
        families: further controls, by family.
        search: passes over the texts, in runs, that depend on what is found; not counted.
    """

    train: int
    validation: int
    test: int
    controls: int
    effects: int
    families: dict[str, int]
    search: int

    @property
    def stages(self) -> int:
        """How many: evaluation, activations, two sweeps, controls at two coefficients, side effects, and the families."""
        return 7 + len(self.families)

    @property
    def scored(self) -> int:
        """Runs whose answers are judged."""
        return self.validation + self.test + 2 * self.controls + sum(self.families.values())

    @property
    def runs(self) -> int:
        """All that is counted."""
        return self.train + self.scored + self.effects


def workload(
    model: Model,
    task: Task,
    texts: Sequence[str | Sequence[int]],
    *,
    layers: int,
    alphas: Sequence[float],
    n_controls: int,
    families: Sequence[str],
) -> Workload:
    """Count the runs of the main job.

    Args:
        model: the model.
        task: with three splits.
        texts: what side effects are measured on.
        layers: how many are compared.
        alphas: coefficients; 0 is the baseline, which is run once.
        n_controls: of each kind.
        families: further controls.

    Raises:
        ValueError: problems that the model or their scorer cannot take.
    """
    train, validation, test = (rows_of(model, problems) for problems in (task.train, task.validation, task.test))
    steered = sum(alpha != 0 for alpha in alphas)
    control = test * (2 + n_controls)  # the baseline, the direction, and its controls
    return Workload(
        train,
        validation * (1 + layers * steered),
        test * (1 + steered),
        control,
        len(texts) * (1 + steered + 2 * (1 + n_controls)),
        dict.fromkeys(families, control),
        len(texts) * (1 + n_controls) * SEARCH if "equal_kl" in families else 0,
    )


def parts(
    model: Model, task: Task, texts: Sequence[str | Sequence[int]], work: Workload, *, layers: Sequence[int], **acting: Unpack[Acting]
) -> list[Work]:
    """The main job's runs by kind; what is evaluated is run again for its activations, at most, which is not counted.

    Raises:
        ValueError: what the job refuses.
    """
    return [
        unsteered(model, task.train, work.train, again=work.train),
        steered(model, task.validation, work.scored, layers=layers, **acting),
        on_texts(model, texts, work.effects, layers=layers, search=work.search, **acting),
    ]
