"""How long a job will take, said before it starts: runs of several kinds are counted, and each kind is timed on a small batch.

A run is one row (a prompt with what is scored after it) under one intervention or none; of training, one problem under one
candidate, forward and backward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steerlab import _progress
from steerlab._progress import forecast_made, forecast_wanted, say_forecast
from steerlab.models.threads import suitable_threads

TIMED = 8  # interventions of a timed batch, at most
SHARE = 1 / 20  # of the time that work takes, which a timed batch of it may take
LONG = 10.0  # seconds of a batch that is not timed again


@dataclass(frozen=True)
class Work:
    """Runs of one kind.

    Attributes:
        kind: what they are.
        runs: how many.
        given: problems or texts, of which a timed batch takes the first ones.
        run: runs some of them; gives back how many runs that was.
        prepare: what is done with them before, which takes no time worth counting in the whole; `run` gets what it gives.
        unforeseen: about so many more, which depend on what is found: they are part of the estimate and not of the number that is said.
    """

    kind: str
    runs: int
    given: Sequence[Any]
    run: Callable[[Any], int]
    unforeseen: int = 0
    prepare: Callable[[Any], Any] = lambda some: some

    def seconds(self) -> float:
        """About how long all of it takes: from a batch of a second or of a twentieth of that time, or from all that is given.

        Example:
            >>> work = Work("sweep", 600, range(50), lambda some: 4 * len(some))  # four runs a problem
            >>> work.seconds() >= 0
            True
        """
        size = 1
        while True:
            taken, found = self._timed(size)
            if taken >= min(_progress.FIRST, found * SHARE):
                # A first batch may have waited for what is set up once; a long one cannot be spared for that.
                return min(found, self._timed(size)[1]) if size == 1 and 0 < taken < LONG else found
            if size >= len(self.given):
                return found
            size *= 4

    def _timed(self, size: int) -> tuple[float, float]:
        """Seconds that a batch takes, and all of it."""
        some = self.prepare(self.given[:size])
        begun = _progress.clock()
        done = self.run(some)
        taken = _progress.clock() - begun
        return taken, taken / done * (self.runs + self.unforeseen)


def forecast(model: Any, work: Sequence[Work], *, show: bool, unit: str = "run", extra: str = "") -> None:
    """Where a job will take over a minute, say how many runs it is made of, how long they take and what would make it cheaper; once a job.

    Inside of a job that has said it already nothing is said or timed. What is timed draws nothing from anybody's random numbers.

    Args:
        model: what the job runs.
        work: what the job is made of.
        show: False says and times nothing.
        unit: what is counted, in the singular.
        extra: said behind the number of runs.

    Raises:
        ValueError: what the job itself refuses.
    """
    if not show or not forecast_wanted():
        return
    some = [one for one in work if one.runs + one.unforeseen and len(one.given)]
    with suitable_threads(model):
        seconds = sum(one.seconds() for one in some)
        say_forecast(sum(one.runs for one in some), seconds, unit=unit, extra=extra)
    forecast_made()
