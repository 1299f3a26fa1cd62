"""Per-token magnitudes: how large the residual stream is at each token, and how much of it lies along a direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from steerlab._checks import InputError
from steerlab._progress import job, progress_bar
from steerlab.directions.direction import Direction, check_direction
from steerlab.models.backends import Model
from steerlab.models.batches import Row, batches_for
from steerlab.models.encoding import token_text
from steerlab.models.memory import pass_tokens
from steerlab.models.model import hook_name
from steerlab.models.passes import residuals
from steerlab.models.threads import on_suitable_threads
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import encode_prompt


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """Size of the residual stream token by token.

    Attributes:
        frame: one line a problem, layer and position: problem_id, layer, position (from 0), from_end (-1 is the last
            token), token (its text; its number where the model has no tokenizer), norm (of the stream) and projection (onto the direction's unit vector; NaN without one).
        site: where it was measured.
        direction: the direction projected on, or None.
    """

    frame: pd.DataFrame
    site: str
    direction: Direction | None

    def by_position(self, *, aligned: str = "start") -> pd.DataFrame:
        """Means over problems, one line a layer and position: layer, position, n, norm, projection.

        Args:
            aligned: count positions from the prompt's "start" or from its "end" (then they are negative).

        Raises:
            ValueError: another word.
        """
        if aligned not in ("start", "end"):
            raise InputError(f"aligned={aligned!r}; use start or end")
        column = "position" if aligned == "start" else "from_end"
        grouped = self.frame.groupby(["layer", column], sort=True)
        table = grouped.agg(n=("norm", "size"), norm=("norm", "mean"), projection=("projection", "mean")).reset_index()
        return table.rename(columns={column: "position"})

    def by_token(self) -> pd.DataFrame:
        """Means over every occurrence of a token, largest norm first: layer, token, n, norm, projection."""
        grouped = self.frame.groupby(["layer", "token"], sort=True)
        table = grouped.agg(n=("norm", "size"), norm=("norm", "mean"), projection=("projection", "mean")).reset_index()
        return table.sort_values(["layer", "norm"], ascending=[True, False], kind="stable", ignore_index=True)

    def __repr__(self) -> str:
        problems, layers = self.frame["problem_id"].nunique(), sorted(set(self.frame["layer"]))
        return f"Magnitudes({problems} problems, layers={layers}, site={self.site!r})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.by_position().to_html(index=False, float_format="{:.3g}".format, escape=True)


@job("problems", "layers")
@on_suitable_threads
@torch.no_grad()
def token_magnitudes(
    model: Model,
    problems: Sequence[Problem] | Sequence[str],
    *,
    layers: Sequence[int],
    site: str = "resid_post",
    direction: Direction | None = None,
    max_tokens: int | None = None,
    progress: bool = False,
) -> Magnitudes:
    """Measure the residual stream at every token of every prompt.

    Args:
        model: a TransformerLens model.
        problems: whose prompts are run; or texts, which are then called text-0, text-1, …
        layers: 0-based blocks.
        site: "resid_pre", "resid_mid" or "resid_post".
        direction: project on it, position-independent (shape ``[d_model]``).
        max_tokens: rows times positions of one forward pass.
        progress: show a progress bar.

    Raises:
        TypeError: something else than problems or texts.
        ValueError: no problems or layers, a layer or site that does not exist, or a direction that does not fit.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> found = sl.token_magnitudes(model, task.test[:5], layers=[0, 5])
        >>> table = found.by_position()
        >>> sorted(table["layer"].unique().tolist()), bool((table["norm"] > 0).all())
        ([0, 5], True)
    """
    problems = as_problems(problems, texts=True)
    if not problems or not layers:
        raise InputError(f"{len(problems)} problems and {len(layers)} layers given; give at least one of each")
    for layer in layers:
        hook_name(model, layer, site)
    unit = None
    if direction is not None:
        check_direction(model, direction)
        if direction.vector.ndim != 1:
            raise InputError(f"direction {direction.name!r} has one vector a position; give one of shape [d_model]")
        unit = direction.unit().vector
    rows = tuple(Row(tuple(ids), len(ids)) for ids in (encode_prompt(model, problem) for problem in problems))
    parts: dict[int, list[pd.DataFrame]] = {}
    with progress_bar(total=len(rows), desc="magnitudes", unit="prompt", show=progress) as bar:
        for batch in batches_for(model, rows, room=pass_tokens(model, max_tokens)):
            found = residuals(model, batch.tokens, list(layers), site)
            for layer in layers:
                resid = found[layer].float()
                norms = resid.norm(dim=-1).cpu().numpy()
                along = np.full_like(norms, np.nan) if unit is None else (resid @ unit.to(resid)).cpu().numpy()
                for k, (i, row) in enumerate(zip(batch.index, batch.rows, strict=True)):
                    n = row.prompt_length
                    values = {"position": range(n), "from_end": range(-n, 0), "norm": norms[k, :n], "projection": along[k, :n]}
                    tokens = [token_text(model, token) for token in row.tokens]
                    parts.setdefault(i, []).append(pd.DataFrame({"problem_id": problems[i].id, "layer": layer, "token": tokens, **values}))
            bar.update(len(batch.index))
    frame = pd.concat([part for i in sorted(parts) for part in parts[i]], ignore_index=True)
    columns = ["problem_id", "layer", "position", "from_end", "token", "norm", "projection"]
    return Magnitudes(frame[columns], site, direction)
