"""Training losses and validation accuracies, both computed on kept residual streams.

The loop in `steerlab.aft.training` sees only the two protocols here, so another way to run a model is trained by bringing its own
two objects.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, Unpack, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from steerlab._checks import InputError, only
from steerlab.activations.positions import Positions
from steerlab.aft.differentiable import Pair, Resumed
from steerlab.aft.learnables import Learnable, Parameters, rule_of
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch
from steerlab.models.memory import Limits, is_out_of_memory, logit_values
from steerlab.models.model import Site, describe
from steerlab.models.reading import Reader
from steerlab.steering.cells import run_interventions
from steerlab.steering.operators import Operator
from steerlab.steering.prompt_rules import vectors_of
from steerlab.steering.variants import Intervention, Placed
from steerlab.tasks.evaluation import evaluate, plan
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, Target, scorer_for


class LearnedActing(Limits):
    """How learned vectors act, and within which limits."""

    operator: Operator
    positions: Positions


Measured = tuple[float, float]  # accuracy and mean negative log-likelihood of the target


@runtime_checkable
class Objective(Protocol):
    """The training problems' losses."""

    @property
    def size(self) -> int:
        """Number of training problems."""

    def losses(self, pairs: Sequence[Pair], parameters: Mapping[int, Parameters]) -> Iterator[tuple[list[int], Float[Tensor, " pair"]]]:
        """Cross-entropy of candidates on problems, differentiable by the parameters, in passes.

        Args:
            pairs: candidate and problem.
            parameters: of each candidate among them.

        Yields:
            Places of some of the pairs, and their losses.
        """

    def shrink(self) -> None:
        """Make do with less memory from now on.

        Raises:
            MemoryError: there is no smaller way.
        """


Validator = Callable[[Mapping[int, Parameters]], dict[int, Measured]]


class AnswerLoss:
    """Negative log-likelihood of each problem's right answer, summed over its tokens.

    Args:
        model, problems, paths, learnable: see `steerlab.aft.differentiable.Resumed`.
        target: which tokens count.
        acting: how, and within which limits.
    """

    def __init__(
        self,
        model: Model,
        problems: Sequence[Problem],
        paths: Sequence[Sequence[Site]],
        learnable: Learnable,
        target: Target,
        **acting: Unpack[LearnedActing],
    ) -> None:
        self._resumed = Resumed(model, [target(model, problem) for problem in problems], paths, learnable, **acting)
        self._logits = logit_values(acting.get("memory"))

    @property
    def size(self) -> int:
        """Number of training problems."""
        return len(self._resumed.rows)

    def losses(self, pairs: Sequence[Pair], parameters: Mapping[int, Parameters]) -> Iterator[tuple[list[int], Float[Tensor, " pair"]]]:
        """See `Objective.losses`."""
        for which, batch, final in self._resumed.run(pairs, parameters):
            numbers, owner = _numbers(self._resumed.model, batch, final, self._logits)
            yield which, -torch.zeros(len(which), device=final.device).index_add(0, owner, numbers)

    def shrink(self) -> None:
        """See `Objective.shrink`; fewer logits are held at a time, too."""
        self._logits = max(1, self._logits // 2)
        self._resumed.shrink()


def _numbers(model: Model, batch: Batch, final: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """What is read from the rows of a batch, and which row each number is of."""
    reader = Reader(batch, most)
    reads = reader.reads(tuple((r,) for r in range(len(batch.rows))), 0, batch.width)
    numbers = torch.zeros(reader.size, device=final.device)
    for _, places, found in reads.numbers(model, final):
        numbers = numbers.index_put((torch.tensor(places, device=final.device),), found[0])
    owner = [r for r, row in enumerate(batch.rows) for read in row.reads for _ in read.tokens]
    return numbers, torch.tensor(owner, device=final.device)


class ValidationScore:
    """Accuracy and mean nll of validation problems under each candidate, as their scorer judges them.

    Answers that are generated are generated anew for every epoch, all candidates side by side.

    Raises:
        ValueError: problems that the scorer or the model cannot take.
    """

    def __init__(
        self,
        model: Model,
        problems: Sequence[Problem],
        paths: Sequence[Sequence[Site]],
        learnable: Learnable,
        *,
        scorer: str | Scorer | None,
        **acting: Unpack[LearnedActing],
    ) -> None:
        self._model, self._problems, self._paths, self._learnable = model, list(problems), paths, learnable
        self._scorer = scorer_for(problems, scorer)
        self._acting = acting
        self._plan = plan(model, problems, self._scorer)
        self._logits = logit_values(acting.get("memory"))
        self._generates = any(row.new_tokens for row in self._plan.rows)
        self._prompts = list(dict.fromkeys(row.prompt for row in self._plan.rows))
        if not self._generates:
            self._resumed = Resumed(model, self._plan.rows, paths, learnable, gradients=False, **acting)

    def unsteered(self) -> float:
        """Accuracy without any vector."""
        return evaluate(self._model, self._problems, scorer=self._scorer, **only(self._acting, Limits)).accuracy

    @torch.no_grad()
    def __call__(self, parameters: Mapping[int, Parameters]) -> dict[int, Measured]:
        """Accuracy and mean nll of each candidate."""
        if self._generates:
            return self._generated(parameters)
        rows = self._plan.rows
        pairs = [(c, i) for c in parameters for i in range(len(rows))]
        answers = {c: [Answer()] * len(rows) for c in parameters}
        while not self._answered(pairs, parameters, answers):
            self._logits = max(1, self._logits // 2)
            self._resumed.shrink()
        frames = {c: self._plan.judge(self._model, found) for c, found in answers.items()}
        return {c: (float(frame["correct"].mean()), float(frame["nll"].mean())) for c, frame in frames.items()}

    def _answered(self, pairs: Sequence[Pair], parameters: Mapping[int, Parameters], answers: dict[int, list[Answer]]) -> bool:
        """Fill in the answers; False where memory ran out."""
        try:
            for which, batch, final in self._resumed.run(pairs, parameters):
                numbers, _ = _numbers(self._model, batch, final, self._logits)
                for j, answer in zip(which, Reader(batch).answers(numbers.double().cpu().numpy()), strict=True):
                    c, i = pairs[j]
                    answers[c][i] = answer
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _generated(self, parameters: Mapping[int, Parameters]) -> dict[int, Measured]:
        places = {c: tuple(self._places(c, mine)) for c, mine in parameters.items()}
        still = [c for c, mine in places.items() if mine]
        cells = [Intervention(places[c], 1.0) for c in still]
        done = run_interventions(self._model, self._problems, cells, scorer=self._scorer, **self._acting)
        frames = dict.fromkeys(parameters, done.baseline.frame) | dict(zip(still, done.frames, strict=True))
        return {c: (float(frame["correct"].mean()), float(frame["nll"].mean())) for c, frame in frames.items()}

    def _places(self, candidate: int, parameters: Parameters) -> Iterator[Placed]:
        """What acts; places at which the vector is still zero are left out."""
        for k, site in enumerate(self._paths[candidate]):
            vector, name = self._learnable.fixed(parameters, k), f"{candidate}-{k}"
            if vector is not None:
                if float(vector.norm()):
                    direction = Direction(vector.detach(), *site, name=name, model=describe(self._model))
                    yield Placed(direction, site)
                continue
            if len(self._paths[candidate]) > 1:
                raise InputError(
                    "validation generates its answers, and a vector that depends on the prompt acts at several layers, where the later "
                    "ones see what the earlier ones did; use scorer='continuation', problems with choices, or one layer"
                )
            rule = rule_of(self._learnable, parameters, k)
            yield Placed(vectors_of(self._model, self._prompts, rule, layer=site.layer, site=site.site, name=name), site)
