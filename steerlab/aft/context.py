"""Learned vectors that depend on the prompt: ``h' = h + v(x)``, with v(x) = b + g(pool(x)) (the family that DRAB belongs to).

A prompt's vector depends on nothing that steering changes, so it is computed once a prompt (`ContextVector.on`), and sweeps,
controls and generation use it like any direction.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlab._checks import InputError, only, takes_options
from steerlab._html import Plotted
from steerlab._progress import job
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.aft.aft import broken_off, check_not_zero, outcome, train_as
from steerlab.aft.learnables import ContextLearnable, learnable_named, rule_of
from steerlab.aft.training import HISTORY_COLUMNS, OneTraining, TrainingRun
from steerlab.directions.direction import Direction, check_direction, moved, moved_from
from steerlab.directions.prompt_vectors import PromptVectors
from steerlab.models.backends import Model
from steerlab.models.memory import Limits, PassOptions
from steerlab.models.model import Site, d_model, describe, hook_name, hooks
from steerlab.steering import OPERATORS
from steerlab.steering.cells import run_interventions
from steerlab.steering.interventions import Patch, check_alpha
from steerlab.steering.operators import Operator, operator_named
from steerlab.steering.prompt_rules import prompts_of, vectors_of
from steerlab.steering.variants import Intervention, Placed
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer

SpanOfPrompt = str | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False, repr=False)
class ContextVector(Plotted, title="Context vector", shown="name layer site n_parameters norm", figure="training_curve"):
    """A learned vector that depends on the prompt.

    Attributes:
        learnable: what it is made of, e.g. `steerlab.aft.learnables.MLPVector`.
        parameters: what was learned; on the CPU, float32.
        layer, site: where the stream is looked at, and where the vector acts.
        name: for tables and figures.
        method: how it was learned.
        model: what `steerlab.models.model.describe` says of the model it was learned in.
        history: as of a `LearnedVector`; its norm is that of b, the part that all prompts share.
        operator: the function that it was learned with, where that is one of the user's own; files do not keep it.

    Raises:
        ValueError: parameters that are not those of the learnable, or not finite.
    """

    learnable: ContextLearnable
    parameters: Mapping[str, Tensor]
    layer: int
    site: str = "resid_post"
    name: str = "context vector"
    method: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=HISTORY_COLUMNS))
    operator: Operator | None = None

    def __post_init__(self) -> None:
        wanted = {key: tuple(value.shape) for key, value in self.learnable.initial(np.random.default_rng(0)).items()}
        given = {key: torch.as_tensor(value).detach().to("cpu", torch.float32) for key, value in self.parameters.items()}
        if {key: tuple(value.shape) for key, value in given.items()} != wanted:
            raise InputError(
                f"context vector {self.name!r}: parameters of shapes { {key: list(v.shape) for key, v in given.items()} }; {self.learnable!r} "
                f"has { {key: list(shape) for key, shape in wanted.items()} }"
            )
        bad = [key for key, value in given.items() if not bool(value.isfinite().all())]
        if bad:
            raise InputError(f"context vector {self.name!r}: {bad[0]} is not finite; steering with it would destroy every logit")
        object.__setattr__(self, "parameters", given)
        object.__setattr__(self, "method", MappingProxyType(dict(self.method)))
        object.__setattr__(self, "model", MappingProxyType(dict(self.model)))

    def __reduce__(self) -> tuple[Any, ...]:
        about = (self.learnable, dict(self.parameters), self.layer, self.site, self.name, dict(self.method), dict(self.model), self.history)
        return ContextVector, (*about, self.operator)

    def for_model(self, model: Model) -> "ContextVector":
        """The same vector for another model, on purpose; see `steerlab.Direction.for_model`.

        Raises:
            ValueError: a layer, site or width that this model lacks, or other weight processing.
        """
        method = moved_from(self, model)
        found = self if method is self.method else replace(self, model=describe(model), method=method)
        found._check(model)
        return found

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned."""
        return sum(value.numel() for value in self.parameters.values())

    @property
    def norm(self) -> float:
        """The norm of b, the part that all prompts share."""
        return self.learnable.norm(self.parameters)

    @torch.no_grad()
    def vectors(self, resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"]) -> Float[Tensor, "row d_model"]:
        """The vector of each row, from the unsteered stream at its place and where that holds the prompt."""
        return rule_of(self.learnable, self.parameters)(resid, prompt)

    @takes_options
    def on(
        self, model: Model, problems: Sequence[Problem], *, scorer: str | Scorer | None = None, **options: Unpack[Limits]
    ) -> PromptVectors:
        """The vectors of problems' prompts, for ``sl.sweep(model, problems, vector.on(model, problems))`` and what else takes directions.

        Args:
            model: the model that it was learned in.
            problems: all that will be run.
            scorer: how they will be judged, since scorers put prompts differently; default the task's own.

        Raises:
            ValueError: another width, a layer that the model lacks, other weight processing, or problems that cannot be scored.
        """
        self._check(model)
        method = {"estimator": "context vector", "of": self.name, **self.method}
        return vectors_of(
            model, prompts_of(model, problems, scorer), rule_of(self.learnable, self.parameters), layer=self.layer, site=self.site,
            name=self.name, method=method, **options,
        )  # fmt: skip

    @takes_options
    def evaluate(
        self,
        model: Model,
        problems: Sequence[Problem],
        *,
        alpha: float = 1.0,
        operator: str | Operator | None = None,
        positions: Positions | None = None,
        scorer: str | Scorer | None = None,
        **options: Unpack[PassOptions],
    ) -> Evaluation:
        """Score problems, each under the vector of its own prompt.

        Args:
            alpha: coefficient.
            operator, positions: default those that it was learned with ("add" and "all" if unknown).
            model, problems, scorer: as in `steerlab.sweep`.
        """
        cell = Intervention(
            (Placed(self.on(model, problems, scorer=scorer, **only(options, Limits)), Site(self.layer, self.site)),), check_alpha(alpha)
        )
        act, at = self._how(operator, positions)
        done = run_interventions(
            model, problems, [cell], operator=operator_named(act), positions=at, scorer=scorer, label=self.name, **options
        )
        return Evaluation(tuple(problems), done.frames[0], done.baseline.scorer)

    @contextlib.contextmanager
    def steer(
        self,
        model: Model,
        *,
        alpha: float = 1.0,
        operator: str | Operator | None = None,
        positions: Positions | None = None,
        prompt: SpanOfPrompt = "all",
    ) -> Iterator[list[str]]:
        """Steer every run of the model inside the block, each row with the vector of its own prompt.

        A call of one position with as many rows as the call before goes on from it (generation with a cache), under its vectors. For
        problems use `evaluate` or `on`, which know each scorer's prompts.

        Args:
            model: a TransformerLens model.
            alpha: coefficient.
            operator: default the one that it was learned with.
            positions: as in `steerlab.steer`, and "prompt" where `prompt` says which tokens that are; default those that it was learned with.
                Indices, too, are of the prompt: a call that goes on from it is then not steered.
            prompt: which of the given tokens are the prompt: "all", how many of each row (right-padded), or a mask ``[row pos]``.

        Yields:
            The hook points that are steered.

        Raises:
            ValueError: bad input, or a prompt that does not fit the rows of a call.

        Warns:
            UserWarning: a hook that never fired although the block ended without an error.
        """
        self._check(model)
        point, (named, at) = hook_name(model, self.layer, self.site), self._how(operator, positions)
        act, strength, rule = operator_named(named), check_alpha(alpha), rule_of(self.learnable, self.parameters)
        if at == "generated" or (at == "prompt" and isinstance(prompt, str)):
            raise InputError(f"positions={at!r}: steer does not know where a prompt ends; use evaluate, or the indices of the tokens")
        kept: list[Tensor] = []
        calls = 0

        def fn(resid: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            rows, length = resid.shape[:2]
            if not (length == 1 and kept and len(kept[0]) == rows):
                kept[:] = [rule(resid, _span(prompt, rows, length, resid.device))]
            elif at == "prompt" or not isinstance(at, str):
                return resid  # what goes on from a prompt is none of its tokens
            lengths = [length] * rows if isinstance(prompt, str | Tensor) or length == 1 else list(prompt)
            mask = prompt if at == "prompt" and isinstance(prompt, Tensor) else TokenPositions.of(at).mask(lengths, length)
            vectors = kept[0][:, None]
            alphas = torch.full((1, 1, 1), strength, device=resid.device)
            return Patch(act, vectors, alphas, None if mask is None else mask.to(resid.device, torch.bool))(resid)

        with hooks(model, [(point, fn)] if strength else []):
            yield [point]
        if strength and not calls:
            warnings.warn(f"steering never acted: no run of the model inside the block reached {point}", UserWarning, stacklevel=3)

    def _how(self, operator: str | Operator | None, positions: Positions | None) -> tuple[str | Operator, Positions]:
        learned = self.method.get("operator", "add")
        if operator is None and self.operator is None and learned not in OPERATORS:
            raise InputError(
                f"context vector {self.name!r} was learned with an operator of your own, {learned!r}, which its file does not keep; give operator=, the "
                "function that it was learned with"
            )
        act = operator if operator is not None else self.operator if self.operator is not None else learned
        return act, positions if positions is not None else self.method.get("positions", "all")

    def _check(self, model: Model) -> None:
        stand_in = Direction(torch.ones(self.learnable.d_model), self.layer, self.site, name=self.name, model=self.model)
        check_direction(model, stand_in)

    def warnings(self) -> list[str]:
        """What a reader must know: training that broke off, a vector of another model."""
        stand_in = Direction(
            torch.ones(self.learnable.d_model), self.layer, self.site, name=self.name, method=self.method, model=self.model
        )
        return broken_off(self.method) + moved([stand_in])

    def __repr__(self) -> str:
        accuracy = self.method.get("validation_accuracy")
        shown = "" if accuracy is None else f", validation accuracy {accuracy:.3f}"
        kind = type(self.learnable).__name__
        return f"ContextVector({self.name!r}, {kind}, {self.n_parameters} parameters, layer={self.layer}, norm of b={self.norm:.3g}{shown})"

    @property
    def frame(self) -> pd.DataFrame:
        """The history: one line an epoch."""
        return self.history


def _span(prompt: SpanOfPrompt, rows: int, length: int, device: torch.device) -> Tensor:
    """Where the rows of a call hold their prompts."""
    if isinstance(prompt, Tensor):
        mask = prompt.to(device, torch.bool)
        if mask.shape != (rows, length) or not bool(mask.any(1).all()):
            raise InputError(
                f"prompt is a mask of shape {list(mask.shape)}; this call has {rows} rows of {length} tokens, each with a prompt"
            )
        return mask
    if isinstance(prompt, str):
        if prompt != "all":
            raise InputError(f"prompt={prompt!r}; use 'all', a number of tokens for each row, or a mask")
        return torch.ones(rows, length, dtype=torch.bool, device=device)
    if len(prompt) != rows or not all(0 < n <= length for n in prompt):
        raise InputError(f"prompt={list(prompt)}; this call has {rows} rows of {length} tokens: give 1 to {length} for each row")
    return torch.arange(length, device=device) < torch.tensor(list(prompt), device=device)[:, None]


@job("problems", "epochs")
@takes_options
def learn_context_vector(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    kind: str | ContextLearnable = "modulated",
    pooling: str = "mean",
    name: str | None = None,
    **options: Unpack[OneTraining],
) -> ContextVector:
    """A learned vector that depends on the prompt: v(x) = b + g(pool(x)).

    It is trained as `learn_vector` trains a static one: same steps, same order, same early stop.

    Args:
        kind: "modulated" (a static vector times a learned number a prompt), "dictionary" (8 vectors and a router), "mlp" (a network of
            128 units that gives the vector), or one of `steerlab.aft.learnables` with sizes of your own, which says `pooling` and `init` itself.
        pooling: "mean" over the prompt, or its "last" position.
        model, problems, layer, name: see `learn_vector`.
        l2: times the squares of all parameters.
        norm_cap: the largest norm of b; the vectors of all prompts are scaled with it.

    Raises:
        ValueError: as `learn_vector`; also an unknown kind.

    Source:
        DRAB, the family of context-dependent vectors of the activation fine-tuning programme; its three reported parameter counts.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=8, n_test=8)
        >>> learned = sl.learn_context_vector(model, task.train, layer=3, kind="dictionary", validation=task.validation, epochs=2)
        >>> learned.n_parameters, learned.evaluate(model, task.test).n
        (9800, 8)
        >>> sw = sl.sweep(model, task.test, learned.on(model, task.test), alphas=[0, 1])
    """
    about = {"pooling": pooling, "init": options["init"], "init_norm": options["init_norm"]}
    learnable = learnable_named(kind, d_model(model), **(about if isinstance(kind, str) else {}))
    run = TrainingRun((Site(layer, options["site"]),), options["seed"], options["l2"], options["lr"])
    found, method = train_as(model, problems, [run], learnable, options)
    trained = found.trained[0]
    parameters = {key: value.cpu() for key, value in trained.parameters.items()}
    check_not_zero(trained, torch.cat([parameters[key].flatten() for key in learnable.outputs]))
    method |= outcome(found, trained) | {
        "estimator": "learned (context-dependent)",
        "learnable": repr(learnable),
        "n_parameters": learnable.n_parameters,
    }
    called = name or (f"{kind} vector" if isinstance(kind, str) else type(learnable).__name__)
    own = None if method["operator"] in OPERATORS else operator_named(options["operator"])
    return ContextVector(learnable, parameters, layer, options["site"], called, method, describe(model), trained.history, own)
