"""Norms and projections of the residual stream at each token, and the critical tokens: where steering moves the model.

For critical tokens each prompt runs with its right answer and with the wrong answer that the unsteered model prefers, without and
with steering. KL says how much steering moves each next-token distribution; the margin, log p(right token) minus log p(wrong
token), where right and wrong part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch

from steerlab._checks import InputError, one_of, only, takes_options
from steerlab._html import Plotted
from steerlab._progress import job, progress_bar
from steerlab.directions.direction import Direction, check_direction, check_type, site_of
from steerlab.models.backends import Model
from steerlab.models.batches import Read, TokenRow, batches_for
from steerlab.models.encoding import token_text
from steerlab.models.forecasts import Work, forecast
from steerlab.models.memory import Limits, PassOptions, pass_tokens
from steerlab.models.model import context_length, hook_name, n_outputs
from steerlab.models.passes import residuals
from steerlab.models.threads import on_suitable_threads
from steerlab.statistics.intervals import bootstrap
from steerlab.statistics.paired import paired_t_test
from steerlab.steering.distributions import NUMBERS, compare_positions
from steerlab.steering.interventions import check_alpha
from steerlab.steering.options import Acting, SteerOptions
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import rows_of, unsteered
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import encode_choices, encode_prompt


@dataclass(frozen=True, eq=False)
class Magnitudes(Plotted, figure="token_magnitudes"):
    """Norms and projections of the residual stream, token by token.

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
        one_of(aligned, "aligned", ("start", "end"))
        column = "position" if aligned == "start" else "from_end"
        return self._means(["layer", column]).rename(columns={column: "position"})

    def by_token(self) -> pd.DataFrame:
        """Means over every occurrence of a token, largest norm first: layer, token, n, norm, projection."""
        return self._means(["layer", "token"]).sort_values(["layer", "norm"], ascending=[True, False], kind="stable", ignore_index=True)

    def _means(self, keys: list[str]) -> pd.DataFrame:
        grouped = self.frame.groupby(keys, sort=True)
        return grouped.agg(n=("norm", "size"), norm=("norm", "mean"), projection=("projection", "mean")).reset_index()

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        along = "" if self.direction is None else f", and where does it lie along the direction of layer {self.direction.layer}"
        tables = {
            "by_position": ("Means by position.", self.by_position()),
            "by_token": ("Means by token, largest norm first.", self.by_token()),
            "magnitudes": ("Every token of every prompt.", self.frame),
        }
        question, directions = f"At which tokens is the residual stream large{along}?", [] if self.direction is None else [self.direction]
        figures = [("Mean norm and projection by position.", self.plot())]
        return {"title": "Per-token magnitudes", "question": question, "figures": figures, "tables": tables, "directions": directions}

    def __repr__(self) -> str:
        problems, layers = self.frame["problem_id"].nunique(), sorted(set(self.frame["layer"]))
        return f"Magnitudes({problems} problems, layers={layers}, site={self.site!r})"

    def summary(self) -> pd.DataFrame:
        """Means over all tokens, one line a layer: layer, n, norm, projection."""
        return self._means(["layer"])


@job("problems", "layers")
@takes_options
@on_suitable_threads
@torch.no_grad()
def token_magnitudes(
    model: Model,
    problems: Sequence[Problem] | Sequence[str],
    *,
    layers: Sequence[int],
    site: str = "resid_post",
    direction: Direction | None = None,
    **options: Unpack[PassOptions],
) -> Magnitudes:
    """Norms and projections of the residual stream at every token of every prompt.

    Args:
        model: a TransformerLens model.
        problems: whose prompts are run; or texts, which are then called text-0, text-1, …
        layers: 0-based blocks.
        site: "resid_pre", "resid_mid" or "resid_post".
        direction: project on it, position-independent (shape ``[d_model]``).

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
    rows = tuple(TokenRow(tuple(ids), len(ids)) for ids in (encode_prompt(model, problem) for problem in problems))
    parts: dict[int, list[pd.DataFrame]] = {}
    with progress_bar(total=len(rows), desc="magnitudes", unit="prompt", show=options["progress"]) as bar:
        for batch in batches_for(model, rows, room=pass_tokens(model, options["max_tokens"], options["memory"])):
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


PARTS = ("prompt", "shared start", "differing", "shared end")


@dataclass(frozen=True, eq=False)
class CriticalTokens(Plotted, figure="critical_tokens"):
    """KL and margin at each token of right and wrong answers, with and without steering.

    Attributes:
        frame: one line a problem, run and token: problem_id, correct (the unsteered model's answer), run ("right" or
            "wrong": which answer follows the prompt), position (from 0), token, part ("prompt"; of the answer "shared
            start", "differing" or "shared end", by the tokens that both answers share; the answer begins where all choices are scored from), kl (nats, unsteered against steered,
            of the distribution behind the token; NaN behind the last token of a text that is one longer than the context, which is read
            and never fed), logprob and logprob_steered (nats, of the token itself given those before
            it; NaN for the first).
        direction: what steered.
        alpha: how much of it.
        layer, site: where.
    """

    frame: pd.DataFrame
    direction: Direction
    alpha: float
    layer: int
    site: str

    def margins(self) -> pd.DataFrame:
        """Where right and wrong part: one line a problem and part of the answer.

        Returns:
            problem_id, correct, part, tokens (of the right answer), margin (log p of the right answer's tokens minus that of the
            wrong one's, nats, unsteered), margin_steered and change. Over the parts of a problem they add up to the
            difference of the answers' log-likelihoods.
        """
        answers = self.frame[self.frame["part"] != "prompt"]
        keys = ["problem_id", "correct", "part", "run"]
        sums = answers.groupby(keys, sort=False)[["logprob", "logprob_steered"]].sum().unstack("run").fillna(0.0)
        before, after = (sums[column, "right"] - sums[column, "wrong"] for column in ("logprob", "logprob_steered"))
        right = answers[answers["run"] == "right"].groupby(keys[:3]).size()
        tokens = right.reindex(sums.index).fillna(0).astype(int)
        return pd.DataFrame({"tokens": tokens, "margin": before, "margin_steered": after, "change": after - before}).reset_index()

    def concentration(self, share: float = 0.9) -> pd.DataFrame:
        """How many tokens have most of the divergence: one line a problem and run.

        Args:
            share: of the KL, in (0, 1].

        Returns:
            problem_id, correct, run, tokens, needed (the fewest tokens that hold `share` of the KL), needed_share (of the
            tokens) and top_share (of the KL, on the tenth of tokens that holds most). Where nothing moved, they are NaN.

        Raises:
            ValueError: a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise InputError(f"share={share}; use a number above 0, at most 1")
        lines = []
        for (name, correct, run), part in self.frame.groupby(["problem_id", "correct", "run"], sort=False):
            kl = np.sort(part["kl"].dropna().to_numpy(float))[::-1]
            n, total = len(kl), float(kl.sum())
            if total == 0:
                lines.append((name, correct, run, n, np.nan, np.nan, np.nan))
                continue
            held = np.cumsum(kl) / total
            needed = int((held < share - 1e-12).sum()) + 1
            lines.append((name, correct, run, n, float(needed), needed / n, float(held[max(1, round(n / 10)) - 1])))
        return pd.DataFrame(lines, columns=["problem_id", "correct", "run", "tokens", "needed", "needed_share", "top_share"])

    def summary(self) -> pd.DataFrame:
        """Means over problems: one line a group of problems (answered rightly or not), run and part: n, tokens, kl, share (of all KL)."""
        keys = ["correct", "run"]
        table = self.frame.groupby([*keys, "part"], sort=False).agg(
            n=("problem_id", "nunique"), tokens=("kl", "size"), measured=("kl", "count"), kl=("kl", "sum")
        )
        total = table.groupby(keys)["kl"].transform("sum")
        table["share"] = table["kl"] / total.where(total > 0)
        table["kl"] /= table.pop("measured")
        return table.reset_index().sort_values(keys, ascending=[False, True], kind="stable", ignore_index=True)

    def by_token(self, least: int = 3) -> pd.DataFrame:
        """Means over each token's occurrences, largest KL first: token, n, kl, share (of all KL).

        Args:
            least: occurrences that a token needs to be listed.
        """
        grouped = self.frame.groupby("token", sort=True)["kl"]
        table = grouped.agg(n="size", kl="mean", share="sum").reset_index()
        total = float(table["share"].sum())
        table["share"] = table["share"] / total if total else np.nan
        return table[table["n"] >= least].sort_values("kl", ascending=False, kind="stable", ignore_index=True)

    def text(self, *, rng: np.random.Generator) -> str:
        """What was found, with intervals: how concentrated KL is, and what steering did to the margin.

        Args:
            rng: draws problems with replacement for the interval of the median.
        """
        table = self.concentration().groupby("problem_id", sort=False)[["needed_share", "top_share"]].mean().dropna()
        margins = self.margins()
        change = margins.groupby("problem_id", sort=False)["change"].sum()
        parts = [f"Layer {self.layer}, alpha {self.alpha:+g}, {len(change)} problems."]
        if len(table) > 1:
            tenth = 100 * float(table["top_share"].median())
            found = bootstrap(table["needed_share"].to_numpy(float), statistic=np.median, rng=rng, n_resamples=1999)
            interval = found.interval(method="percentile")
            parts.append(
                f"90% of the KL is on {100 * found.estimate:.1f}% of a text's tokens in the median (95% bootstrap interval {100 * interval.low:.1f}% to "
                f"{100 * interval.high:.1f}%); the tenth of tokens with the most KL has {tenth:.0f}% of it."
            )
        elif len(table):
            parts.append(f"90% of the KL is on {100 * float(table['needed_share'].iloc[0]):.1f}% of the only text's tokens.")
        else:
            parts.append("Steering moved no distribution.")
        if len(change) > 1 and np.ptp(change) > 0:
            sizes = margins.groupby("part")["margin"].apply(lambda part: part.abs().sum())
            share = 100 * sizes.get("differing", 0.0) / sizes.sum()
            parts.append(
                f"The right answer's log-likelihood margin changed by {change.mean():+.3g} nats in the mean "
                f"({paired_t_test(np.zeros(len(change)), change.to_numpy(float))}); {share:.0f}% of the unsteered margin, part by part in absolute value, "
                "is on tokens in which the answers differ."
            )
        return " ".join(parts)

    def report_parts(self, *, seed: int = 0) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words; `seed` is that of the intervals."""
        answer = self.text(rng=np.random.default_rng([seed, 1]))
        question = f"At which tokens does steering at layer {self.layer}, alpha {self.alpha:+g}, move the model, and at which do right and wrong answers diverge?"
        figures = [("Mean KL behind a token, by part of the text.", self.plot(), answer)]
        tables = {
            "by_part": ("Mean KL behind a token, by part, answer and outcome.", self.summary()),
            "by_token": ("Tokens that occur at least three times, largest mean KL first.", self.by_token().head(50)),
            "margins": ("", self.margins()),
            "concentration": ("", self.concentration()),
            "tokens": ("", self.frame),
        }
        return self._page("Critical tokens", question, "", tables, answer=answer, figures=figures, directions=[self.direction])

    def __repr__(self) -> str:
        needed = self.concentration()["needed_share"]
        return (
            f"CriticalTokens({self.frame['problem_id'].nunique()} problems, {self.direction.name!r} at layer {self.layer}, alpha={self.alpha}; 90% of the "
            f"KL is on {100 * needed.median():.0f}% of a text's tokens in the median)"
        )


@job("problems")
@takes_options
@on_suitable_threads
def critical_tokens(
    model: Model, problems: Sequence[Problem], direction: Direction, *, alpha: float, **options: Unpack[SteerOptions]
) -> CriticalTokens:
    """KL and margin at each token: where steering moves the model, and where right and wrong answers diverge.

    Args:
        model: a TransformerLens model.
        problems: with choices; the wrong run takes the wrong choice whose tokens are likeliest without steering.
        direction: what steers.
        alpha: the coefficient, not 0.

    Raises:
        ValueError: no problems, problems without choices, alpha 0, or what `steerlab.side_effects` refuses.

    Source:
        Hypothesis 2 ("critical token divergence") of the AFT research programme: that nine tenths of the separation of right and
        wrong is on few tokens.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=1)
        >>> found = sl.critical_tokens(model, task.test[:3], direction, alpha=1.0)
        >>> sorted(found.frame["part"].unique()), bool(found.frame["kl"].min() >= 0)
        (['differing', 'prompt'], True)
    """
    as_problems(problems)
    check_type(direction, "direction")
    if check_alpha(alpha) == 0:
        raise InputError("alpha=0 changes nothing; use the coefficient whose divergence is asked for")
    if not problems:
        raise InputError("no problems given; give at least one")
    for problem in problems:
        if problem.choices is None:
            raise InputError(
                f"problem {problem.id!r} has no choices, so there is no wrong answer to compare with; give problems with choices"
            )
    at = site_of(direction, options["layer"], options["site"])
    every = [[TokenRow(tuple(tokens), start) for tokens in found] for found, start in (encode_choices(model, p) for p in problems)]
    last = n_outputs(model) - 1
    for problem, rows in zip(problems, every, strict=True):
        for token in (token for row in rows for token in row.tokens[1:] if token > last):
            raise InputError(
                f"problem {problem.id!r}: token {token}, and this model predicts tokens 0 to {last} only; give problems in tokens that it predicts"
            )
    flat = tuple(_fed(model, row) for rows in every for row in rows)
    cells = [Intervention((Placed(direction, at),), float(alpha))]
    how = only(options, Acting)
    if options["progress"]:

        def timed(some: Sequence[TokenRow]) -> int:
            compare_positions(model, some, cells, **how)
            return 2 * len(some)

        made_of = [Work("texts", 2 * len(flat), flat, timed), unsteered(model, problems, rows_of(model, problems))]
        forecast(model, made_of, show=True)
    measured = iter(compare_positions(model, flat, cells, progress=options["progress"], **how))
    right = evaluate(model, problems, **only(options, Limits)).frame["correct"].to_numpy(bool)
    nll, kl = NUMBERS.index("nll"), NUMBERS.index("kl")
    parts = []
    for problem, rows, correct in zip(problems, every, right, strict=True):
        found = [next(measured) for _ in rows]
        scores = [-base[row.prompt_length - 1 :, nll].sum() for row, (base, _) in zip(rows, found, strict=True)]  # 0 behind the last token
        wanted = problem.target_index
        rival = max((k for k in range(len(rows)) if k != wanted), key=lambda k: scores[k])
        labels = _parts(rows[wanted], rows[rival])
        for run, k, part in (("right", wanted, labels[0]), ("wrong", rival, labels[1])):
            base, steered, n = found[k][0], found[k][1][0], len(rows[k].tokens)
            tokens = [token_text(model, token) for token in rows[k].tokens]
            about = {"problem_id": problem.id, "correct": bool(correct), "run": run, "position": range(n), "token": tokens, "part": part}
            log_probs = [np.concatenate([[np.nan], -numbers[: n - 1, nll]]) for numbers in (base, steered)]
            numbers = {"kl": np.concatenate([steered[:, kl], [np.nan]])[:n], "logprob": log_probs[0], "logprob_steered": log_probs[1]}
            parts.append(pd.DataFrame(about | numbers))
    return CriticalTokens(pd.concat(parts, ignore_index=True), direction, float(alpha), *at)


def _fed(model: Model, row: TokenRow) -> TokenRow:
    """The tokens of a text that are run: all, or, of one that is a token longer than the context, all but the last, which is read behind them."""
    if len(row.tokens) <= context_length(model):
        return row
    fed = row.tokens[:-1]
    return TokenRow(fed, row.prompt_length, (Read(len(fed) - 1, row.tokens[-1:], log_prob=True),))


def _parts(right: TokenRow, wrong: TokenRow) -> tuple[list[str], list[str]]:
    """Which part each token of both texts belongs to, by the tokens that both answers share at their start and end."""
    ours, theirs = right.tokens[right.prompt_length :], wrong.tokens[wrong.prompt_length :]
    shortest, start, end = min(len(ours), len(theirs)), 0, 0
    while start < shortest and ours[start] == theirs[start]:
        start += 1
    while end < shortest - start and ours[-1 - end] == theirs[-1 - end]:
        end += 1

    def labelled(row: TokenRow, n: int) -> list[str]:
        return [PARTS[0]] * row.prompt_length + [PARTS[1]] * start + [PARTS[2]] * (n - start - end) + [PARTS[3]] * end

    return labelled(right, len(ours)), labelled(wrong, len(theirs))
