"""One problem at a time: run it up to a layer, decide what to add there, and run on under several such nudges side by side.

What is decided may depend on the stream at that layer, so nothing can be planned ahead; the prompt still runs to the layer only once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.memory import generated_rows, logit_values, pass_tokens
from steerlab.models.model import d_model
from steerlab.models.passes import entering
from steerlab.models.reading import Reader, Run
from steerlab.models.shortcuts import runs_whole
from steerlab.steering.generation import generate_cells
from steerlab.steering.interventions import steer
from steerlab.steering.operators import OPERATORS
from steerlab.steering.variants import Cell, Place, shares
from steerlab.steering.wavefront import Front, Seen
from steerlab.tasks.evaluation import Plan, evaluate
from steerlab.tasks.scorers import Outcome

Nudge = Float[np.ndarray, " d_model"] | None  # what is added at every position; None adds nothing
TOLERANCE = 1e-4  # margins may differ by so much from the plain hooked run


class Nudger:
    """Runs a problem up to the output of a layer, and on from there under several nudges.

    Args:
        model: the model.
        layer: the block whose output is looked at and nudged.
        memory: what a forward pass may take.
    """

    def __init__(self, model: Model, layer: int, memory: str | int | None) -> None:
        self._model, self._layer, self._memory = model, int(layer), memory
        self._front = Front(model, OPERATORS["add"], "all")
        self._room = pass_tokens(model, None, memory)
        self._idle = torch.ones(d_model(model))
        self._read: list[tuple[Batch, Reader, Run]] = []
        self._compared = False

    def look(self, work: Plan) -> Float[np.ndarray, " d_model"]:
        """Run the rows of a problem up to the watched layer; return the mean of the stream over the prompt."""
        batches = work.batches(self._model, self._room)
        reading = [batch for batch in batches if not batch.rows[0].new_tokens]
        self._read = [self._to_layer(batch) for batch in reading]
        batch, _, run = self._read[0] if reading else self._to_layer(batches[0])
        parts = [streams[self._layer + 1][level.of[0]] for level, streams in zip(batch.levels, run.streams, strict=True)]
        prompt: Tensor = torch.cat(parts)[: batch.rows[0].prompt_length]
        return prompt.double().mean(0).cpu().numpy()

    def _to_layer(self, batch: Batch) -> tuple[Batch, Reader, Run]:
        reader = Reader(batch, logit_values(self._memory))
        streams: list[dict[int, Tensor]] = []
        past: KeyValueCache | None = None
        for level in batch.levels:
            if len(batch.levels) > 1:
                past = KeyValueCache(self._model, len(level.tokens)) if past is None else past.take(level.parent)
            streams.append(entering(self._model, level.tokens, [self._layer + 1], past))
        return batch, reader, Run(np.zeros(reader.size), tuple(streams), (None,) * len(streams))

    def answer(self, work: Plan, nudges: Sequence[Nudge]) -> tuple[list[Outcome], list[float]]:
        """Outcomes under each nudge of the problem last looked at, and how far each moved the stream, relative to its norm."""
        cells = [self._cell(nudge) for nudge in nudges]
        seen = [Seen() for _ in cells]
        answers = [[Answer()] * len(work.rows) for _ in cells]
        for batch, reader, run in self._read:
            whole = runs_whole(self._model)
            for share in shares(batch, cells, "all", whole=whole):
                size = max(1, int(self._room // self._front.cost(share)))
                for first in range(0, len(cells), size):
                    which = slice(first, first + size)
                    values = self._front.run(cells[which], batch, share, run, reader, seen[which])
                    rows = [i for group in share[-1].rows for i in group]
                    for c, line in zip(range(len(cells))[which], values, strict=True):
                        found = reader.answers(line)
                        for i in rows:
                            answers[c][batch.index[i]] = found[i]
        for batch in work.batches(self._model, self._room):
            if batch.rows[0].new_tokens:
                self._generate(batch, cells, seen, answers)
        outcomes = [self._judge(work, mine) for mine in answers]
        self._compare(work, cells, outcomes)
        return outcomes, [one.resid_change for one in seen]

    def _generate(self, batch: Batch, cells: Sequence[Cell], seen: Sequence[Seen], answers: list[list[Answer]]) -> None:
        order = sorted(range(len(cells)), key=lambda c: cells[c].alpha)  # those that do nothing come first
        most = generated_rows(self._model, batch.width + batch.rows[0].new_tokens, self._room, self._memory)
        found = generate_cells(self._front, [cells[c] for c in order], batch, self._room, most, [seen[c] for c in order])
        for c, mine in zip(order, found, strict=True):
            for i, answer in zip(batch.index, mine, strict=True):
                answers[c][i] = answer

    def _cell(self, nudge: Nudge) -> Cell:
        vector = self._idle if nudge is None else torch.from_numpy(nudge)
        return Cell((Place(Direction(vector, self._layer, name="nudge"), self._layer, "resid_post"),), float(nudge is not None))

    def _judge(self, work: Plan, answers: Sequence[Answer]) -> Outcome:
        mine = [Answer(answers[i].reads[which], answers[i].generated) for i, which in work.places[0]]
        return work.scorer.judge(self._model, work.problems[0], mine)

    def _compare(self, work: Plan, cells: Sequence[Cell], outcomes: Sequence[Outcome]) -> None:
        """Compare the first nudged answer with a plain run of the whole model under a hook."""
        acting = next((c for c, cell in enumerate(cells) if cell.alpha), None)
        if self._compared or acting is None:
            return
        self._compared = True
        with steer(self._model, cells[acting].places[0].direction):
            plain = evaluate(self._model, work.problems, scorer=work.scorer).frame.iloc[0]
        gap = abs(float(plain["margin"]) - outcomes[acting].margin)
        limit = TOLERANCE if next(iter(self._model.parameters())).dtype == torch.float32 else 0.05
        if not gap <= limit * max(1.0, abs(outcomes[acting].margin)):
            raise RuntimeError(
                f"layer {self._layer}: the run resumed under a nudge gives another margin than the plain hooked run (difference {gap:.2g}); "
                "results would be wrong. Please report the model's architecture"
            )
