"""The options that all scripts share: model, task, seed, output folder."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

import steerlab as sl
from steerlab._checks import InputError
from steerlab.controls import DEFAULT_PIPELINES, PIPELINES

if TYPE_CHECKING:  # a script's --help needs no torch
    from steerlab.models.backends import Model
    from steerlab.models.memory import PassOptions

LONGEST = 120  # of the name of a run folder that nobody chose

Operator = Annotated[str, tyro.conf.arg(help=f"how it acts: {sl.OPERATORS.listed()}")]
Where = Annotated[str, tyro.conf.arg(help="where it acts: all, last, prompt or generated")]


@dataclass(frozen=True)
class Setup:
    """Model, task, seed and output of a script."""

    model: str = "tiny-arithmetic"  # embedded model, local Hugging Face directory, HookedTransformer name or Hub id
    backend: Literal["auto", "hooked", "bridge"] = "auto"  # HookedTransformer, TransformerBridge, or whichever loads the model
    device: str | None = None  # e.g. cpu or cuda; CUDA where there is one
    dtype: str = "float32"  # float32, bfloat16 or float16
    prepend_bos: bool | None = None  # whether a beginning-of-sequence token stands before each text; TransformerLens' default for the model
    task: Annotated[str, tyro.conf.arg(help=sl.TASKS.listed())] = "arithmetic"
    task_path: str | None = None  # local file or folder of the task; without it the Hub is asked
    form: str | None = None  # form of the task, e.g. choice, numeric or continuation
    paradigm: str | None = None  # BLiMP only: which of its paradigms
    scorer: str | None = None  # how answers are judged; the task's own by default, e.g. continuation for choice
    templates: str | None = None  # text file with a prompt template a line, each with {prompt} in it; problems are asked with each
    limit: int | None = None  # at most so many problems in each split
    too_long: Literal["error", "drop", "truncate"] = "error"
    """problems beyond the model's context: stop, leave them out, or cut prompts from the left"""
    seed: int = 0  # the only source of chance
    out: str | None = None  # run folder; runs/SCRIPT-MODEL-TASK by default, with the paradigm, form and file that were asked for
    overwrite: bool = False  # replace an earlier run in that folder; other files there stay

    def load_model(self) -> "Model":
        """Load the model alone, as the options say."""
        return sl.load_model(self.model, backend=self.backend, device=self.device, dtype=self.dtype, prepend_bos=self.prepend_bos)

    def passes(self) -> "PassOptions":
        """How the model is run."""
        return {"progress": True}

    def load(self) -> "tuple[Model, sl.Task]":
        """Load the task, then the model.

        Raises:
            ValueError, FileNotFoundError, OSError: what the loaders say.
        """
        options: dict[str, Any] = {} if self.paradigm is None else {"paradigm": self.paradigm}
        if self.task == "jsonl":
            options["scorer"] = self.scorer
        if self.templates is not None:
            options["templates"] = _lines(self.templates)
        task = sl.load_task(self.task, path=self.task_path, form=self.form, limit=self.limit, seed=self.seed, **options)
        if self.scorer is not None:
            task = task.scored_by(self.scorer)
        model = self.load_model()
        return model, self._fitted(model, task)

    def _fitted(self, model: "Model", task: "sl.Task") -> "sl.Task":
        """The task without what the model cannot hold, where that was asked for; says what was left out."""
        if self.too_long != "error":  # an error comes where such a problem is used
            task = sl.fit_to_context(model, task, too_long=self.too_long)
        for said in task.left_out():
            print(f"{task.name}: {said}")
        return task

    def contrasts(
        self, model: "Model", task: "sl.Task", layers: Sequence[int] | None = None, *, positions: str = "last"
    ) -> "dict[int, sl.Direction]":
        """The mean difference of right and wrong train problems at each layer; default all.

        Raises:
            ValueError: what `steerlab.contrast_directions` says.
        """
        train = sl.evaluate(model, task.train, **self.passes())
        import numpy as np

        rng = np.random.default_rng([self.seed, 0])
        return sl.contrast_directions(model, train, rng=rng, layers=layers, positions=positions, **self.passes())

    def direction_at(
        self, model: "Model", task: "sl.Task", layer: int | None, given: "sl.Direction | None" = None, *, other_model: bool = False
    ) -> "tuple[sl.Direction, int]":
        """The direction of a script and where it acts: one that was given or, without it, the mean difference of train problems.

        The layer is the one asked for, else that of the given direction, else the middle one.

        Raises:
            ValueError: a given direction was found in another model, and `other_model` does not say that it is meant for this one.
        """
        from steerlab.directions.direction import check_direction

        if given is not None:
            given = given.for_model(model) if other_model else given
            check_direction(model, given)
        if layer is None:
            layer = given.layer if given is not None else model.cfg.n_layers // 2
        return (given if given is not None else self.contrasts(model, task, [layer])[layer]), layer

    @property
    def model_name(self) -> str:
        """The model as reports call it: a directory by its last part."""
        return str(Setup.recorded(self)["model"])

    def folder(self, script: str) -> Path:
        """The run folder: what was asked for, or one that is named by what is run."""
        return Path(self.out) if self.out else Path("runs") / folder_name([script, *self.subject()])

    def subject(self) -> list[str]:
        """What is run, as the name of a run folder says it: the model, the task, and which part of the task."""
        return [Path(self.model).resolve().name, self.task, *self.part()]

    def part(self) -> list[str]:
        """Which paradigm, form and file of the task, where one was asked for."""
        named = [] if self.task_path is None else [stem(self.task_path)]
        return [word for word in dict.fromkeys([self.paradigm, self.form, *named]) if word is not None and word != self.task]

    def save(self, folder: Path, result: Any, model: "Model", task: "sl.Task | dict[str, sl.Task]", **more: Any) -> None:
        """Write the run folder of a result; `more` stands in place of what its page has, except for `about`, which provenance has, too."""
        from steerlab.reports import runs

        about = runs.provenance(model, self.recorded(), task, **more.pop("about", {}))
        runs.save_result(folder, result, about, overwrite=self.overwrite, **more)

    def recorded(self) -> dict[str, Any]:
        """The configuration for provenance: as given, but paths by their last part and without the output folder."""
        values = asdict(self)
        del values["out"], values["overwrite"]
        for key in ("model", "task_path", "templates"):
            if values[key] is not None and Path(values[key]).exists():
                values[key] = Path(values[key]).name
        return values


def _lines(path: str) -> list[str]:
    """The lines of a file of templates, in which backslash n is a line break."""
    from steerlab import _files

    with _files.reading(path):
        text = Path(path).read_text(encoding="utf-8")
    return [line.replace("\\n", "\n") for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Limited(Setup):
    """Model, task, seed and output of a script, and how large a pass may be."""

    max_tokens: int | None = None  # rows times positions of one forward pass; what is fast on the model's device by default
    memory: str | None = None  # what a forward pass may take, e.g. 2GB; passes become smaller where it, or the device, has no room
    precision: str | None = None  # run interventions in this dtype, e.g. bfloat16; the report says how many predictions of a sample differ

    def passes(self) -> "PassOptions":
        """How the model is run."""
        return {"max_tokens": self.max_tokens, "memory": self.memory, "progress": True}


@dataclass(frozen=True)
class Protocol(Limited):
    """What the main job fixes before it scores test problems."""

    layers: tuple[int, ...] | None = None  # candidate layers; all by default
    alphas: tuple[float, ...] = sl.ALPHAS  # coefficients; 0 and a negative one belong to them
    measure: Literal["accuracy", "margin", "nll"] = "accuracy"  # what is chosen by and tested
    choose: Literal["shortlist", "grid", "preset"] = "shortlist"  # the candidates: a few cells, every one, or one for each goal
    full: bool = False  # every layer and alpha (as --choose grid), and all controls without early stopping
    controls: int = 99  # control pipelines of each kind; 99 give p-values down to 0.01
    stop_after: int | None = 10  # end a kind of pipelines when so many are at least as good for each goal
    pipelines: Annotated[tuple[str, ...], tyro.conf.arg(help=f"kinds of control pipelines: {', '.join(PIPELINES)}")] = DEFAULT_PIPELINES
    cache_positions: str = "last"  # where the direction is measured: last or mean
    positions: Where = "all"
    operator: Operator = "add"

    def protocol(self) -> dict[str, Any]:
        """The same as arguments of `steerlab.plan_experiment` and `steerlab.run_experiment`."""
        return {
            "seed": self.seed,
            "layers": self.layers,
            "alphas": self.alphas,
            "measure": self.measure,
            "choose": "grid" if self.full else self.choose,
            "n_controls": self.controls,
            "stop_after": None if self.full else self.stop_after,
            "pipelines": self.pipelines,
            "cache_positions": self.cache_positions,
            "positions": self.positions,
            "operator": self.operator,
        }


@dataclass(frozen=True)
class OneDirection(Setup):
    """Model, task, seed, output and the direction of a script."""

    direction: str | None = None  # safetensors file of a direction; without it the mean difference of train problems is taken
    other_model: bool = False  # use the direction although it was found in another model, such as the one that this is a variant of

    def part(self) -> list[str]:
        """What is run, and with which direction."""
        return super().part() + ([] if self.direction is None else [stem(self.direction)])

    def load_with_direction(self, layer: int | None) -> "tuple[Model, sl.Task, sl.Direction, int]":
        """The model, the task, the direction of the file (else the mean difference at a layer), and where it acts; see `direction_at`."""
        given = None if self.direction is None else sl.load_direction(self.direction)
        model, task = self.load()
        return model, task, *self.direction_at(model, task, layer, given, other_model=self.other_model)


@dataclass(frozen=True)
class SeveralTasks(Setup):
    """Model, several tasks, seed and output of a script."""

    tasks: tuple[str, ...] = ("story", "equation", "largest")
    """variants of arithmetic, paradigms of BLiMP, or task names, each perhaps with =FILE"""

    def load_all(self) -> "tuple[Model, dict[str, sl.Task]]":
        """Load the tasks, then the model. ``gsm8k=FILE`` reads a local file; a name that is no task is a variant or paradigm of `task`.

        Raises:
            ValueError, FileNotFoundError, OSError: a task given twice, or what the loaders say.
        """
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise InputError(f"tasks={','.join(self.tasks)}; give at least one, each once")
        found: dict[str, sl.Task] = {}
        for word in self.tasks:
            name, _, path = word.partition("=")
            given: dict[str, Any] = {"form": self.form, "limit": self.limit, "seed": self.seed, "path": path or self.task_path}
            if name in sl.TASKS:
                kind, label = name, Path(path).stem if name in ("blimp", "jsonl") and path else name
                given["path"] = path or None
            else:
                kind, label = self.task, name
                option = sl.TASKS[kind].parts if kind in sl.TASKS else None
                if option is None:
                    raise InputError(
                        f"tasks: {name!r} is no task, and {kind} has no variants; use {', '.join(sl.TASKS)}, perhaps with =FILE"
                    )
                given[option] = name
            if kind == "jsonl":
                given["scorer"] = self.scorer
            task = sl.load_task(kind, **given)
            if label in found:
                raise InputError(f"tasks={','.join(self.tasks)}: two are called {label!r}; give each once, files under names of their own")
            found[label] = task if self.scorer is None else task.scored_by(self.scorer)
        model = self.load_model()
        return model, {label: self._fitted(model, task) for label, task in found.items()}

    def part(self) -> list[str]:
        """The tasks, files by their name, and the form where one was asked for."""
        words = [word.partition("=") for word in self.tasks]
        form = [] if self.form is None else [self.form]
        return form + [name + (sign and f"-{stem(path)}") for name, sign, path in words]

    def recorded(self) -> dict[str, Any]:
        """The configuration for provenance; files by their last part."""
        values = super().recorded()
        parts = [word.partition("=") for word in self.tasks]
        values["tasks"] = [name + sign + Path(path).name for name, sign, path in parts]
        return values


def stem(path: str | Path) -> str:
    """A file or folder as the name of a run folder says it."""
    return Path(path).stem if Path(path).suffix else Path(path).resolve().name


def folder_name(parts: Sequence[str]) -> str:
    """Words as the name of a folder; a long one ends in a digest of the rest."""
    name = "-".join(re.sub(r"[^\w.=+-]+", "_", part).strip("_") for part in parts)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


S = TypeVar("S", bound=Setup)


def writes_run(script: str) -> Callable[[Callable[[S, Path], None]], Callable[[S], Path]]:
    """Make a script's ``main(config)`` of what it does in its run folder, ``main(config, folder)``.

    The folder is checked before any work is done and held until it is, so that two scripts do not write to one folder; at the end the script
    says where its report lies, and returns the folder.

    Args:
        script: its name, for the folder.
    """

    def around(work: Callable[[S, Path], None]) -> Callable[[S], Path]:
        def main(config: S) -> Path:
            from steerlab.reports import runs

            with runs.reserved(config.folder(script), overwrite=config.overwrite) as folder:
                work(config, folder)
            print(f"\nreport      {folder / 'report.html'}")
            return folder

        main.__doc__, main.__module__ = work.__doc__, work.__module__
        return main

    return around
