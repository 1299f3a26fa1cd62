"""The options that every script shares: which model, which task, which seed, where to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from steerlab import store
from steerlab._errors import InputError
from steerlab.directions import Direction
from steerlab.experiments import contrast_directions
from steerlab.models import Model, load_model
from steerlab.tasks import Task, evaluate, load_task

KNOWN = ("arithmetic", "hellaswag", "arc_challenge", "gsm8k", "svamp", "blimp", "jsonl")


@dataclass(frozen=True)
class Setup:
    """Model, task, seed and output of a script."""

    model: str = "tiny-arithmetic"  # embedded model, local Hugging Face directory, HookedTransformer name or Hub id
    backend: Literal["auto", "hooked", "bridge"] = "auto"  # HookedTransformer, TransformerBridge, or whichever loads the model
    device: str | None = None  # e.g. cpu or cuda; CUDA where there is one
    dtype: str = "float32"  # float32, bfloat16 or float16
    prepend_bos: bool | None = None  # whether a beginning-of-sequence token stands before each text; TransformerLens' default for the model
    task: str = "arithmetic"  # arithmetic, hellaswag, arc_challenge, gsm8k, svamp, blimp or jsonl
    task_path: str | None = None  # local file or folder of the task; without it the Hub is asked
    form: str | None = None  # form of the task, e.g. choice, numeric or continuation
    paradigm: str | None = None  # BLiMP only: which of its paradigms
    scorer: str | None = None  # how answers are judged; the task's own by default, e.g. continuation for choice
    limit: int | None = None  # at most so many problems in each split
    seed: int = 0  # the only source of chance
    out: str | None = None  # run folder; runs/SCRIPT-MODEL-TASK by default

    def load_model(self) -> Model:
        """Load the model alone, as the options say."""
        return load_model(self.model, backend=self.backend, device=self.device, dtype=self.dtype, prepend_bos=self.prepend_bos)

    def load(self) -> tuple[Model, Task]:
        """Load the task, then the model.

        Raises:
            ValueError, FileNotFoundError, OSError: what the loaders say.
        """
        options: dict[str, Any] = {} if self.paradigm is None else {"paradigm": self.paradigm}
        task = load_task(self.task, path=self.task_path, form=self.form, limit=self.limit, seed=self.seed, **options)
        if self.scorer is not None:
            task = task.scored_by(self.scorer)
        return self.load_model(), task

    def contrasts(self, model: Model, task: Task, layers: Sequence[int] | None = None, *, positions: str = "last") -> dict[int, Direction]:
        """The mean difference of right and wrong train problems at each layer; default all.

        Raises:
            ValueError: what `steerlab.contrast_directions` says.
        """
        train = evaluate(model, task.train, progress=True)
        rng = np.random.default_rng([self.seed, 0])
        return contrast_directions(model, train, rng=rng, layers=layers, positions=positions, progress=True)

    def direction_at(self, model: Model, task: Task, layer: int | None, given: Direction | None = None) -> tuple[Direction, int]:
        """The direction of a script and where it acts: one that was given or, without it, the mean difference of train problems.

        The layer is the one asked for, else that of the given direction, else the middle one.
        """
        if layer is None:
            layer = given.layer if given is not None else model.cfg.n_layers // 2
        return (given if given is not None else self.contrasts(model, task, [layer])[layer]), layer

    @property
    def model_name(self) -> str:
        """The model as reports call it: a directory by its last part."""
        return str(Setup.recorded(self)["model"])

    def folder(self, script: str) -> Path:
        """The run folder, checked to be writable before any work is done.

        Raises:
            OSError: it cannot be written, or holds something else.
        """
        name = f"{script}-{Path(self.model).name}-{self.task}"
        return store.check_run_folder(self.out or Path("runs") / name)

    def recorded(self) -> dict[str, Any]:
        """The configuration for provenance: as given, but paths by their last part and without the output folder."""
        values = asdict(self)
        values.pop("out")
        for key in ("model", "task_path"):
            if values[key] is not None and Path(values[key]).exists():
                values[key] = Path(values[key]).name
        return values


@dataclass(frozen=True)
class SeveralTasks(Setup):
    """Model, several tasks, seed and output of a script."""

    tasks: tuple[str, ...] = (
        "story",
        "equation",
        "largest",
    )  # variants of arithmetic, paradigms of BLiMP, or task names, each perhaps with =FILE

    def load_all(self) -> tuple[Model, dict[str, Task]]:
        """Load the tasks, then the model. ``gsm8k=FILE`` reads a local file; a name that is no task is a variant or paradigm of `task`.

        Raises:
            ValueError, FileNotFoundError, OSError: a task given twice, or what the loaders say.
        """
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise InputError(f"tasks={','.join(self.tasks)}; give at least one, each once")
        found: dict[str, Task] = {}
        for word in self.tasks:
            name, _, path = word.partition("=")
            given: dict[str, Any] = {"form": self.form, "limit": self.limit, "seed": self.seed, "path": path or self.task_path}
            if name in KNOWN:
                kind, label = name, Path(path).stem if name in ("blimp", "jsonl") and path else name
                given["path"] = path or None
            else:
                kind, label = self.task, name
                option = {"arithmetic": "variant", "blimp": "paradigm"}.get(kind)
                if option is None:
                    raise InputError(f"tasks: {name!r} is no task, and {kind} has no variants; use {', '.join(KNOWN)}, perhaps with =FILE")
                given[option] = name
            task = load_task(kind, **given)
            if label in found:
                raise InputError(f"tasks={','.join(self.tasks)}: two are called {label!r}; give each once, files under names of their own")
            found[label] = task if self.scorer is None else task.scored_by(self.scorer)
        return self.load_model(), found

    def recorded(self) -> dict[str, Any]:
        """The configuration for provenance; files by their last part."""
        values = super().recorded()
        parts = [word.partition("=") for word in self.tasks]
        values["tasks"] = [name + sign + Path(path).name for name, sign, path in parts]
        return values
