"""What a grid of models and datasets says: does a learned vector help everywhere, and how sure may we be?"""

from collections.abc import Hashable
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from steerlab.grid_cells import GridCell
from steerlab.statistics._display import format_p
from steerlab.statistics.corrections import benjamini_hochberg, holm

LEVEL = 0.05
OUTCOMES = ("positive", "neutral", "negative")


@dataclass(frozen=True, eq=False)
class Universality:
    """What a grid of cells says.

    Attributes:
        cells: what was done.
        records: for each, what `run_cell` gave, or {"error": message}.
    """

    cells: tuple[GridCell, ...]
    records: tuple[dict[str, Any], ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One line a cell: model, dataset, baseline, steered, improvement with low and high (95%, paired), n, became_right, became_wrong, p (sign
        test) with p_holm and p_bh over all finished cells, outcome (of the point estimate), outcome_by_interval, and what `run_cell` records; error
        where it failed.
        """
        lines = [{"model": cell.key[0], "dataset": cell.key[1], **record} for cell, record in zip(self.cells, self.records, strict=True)]
        table = pd.DataFrame(lines).reindex(columns=COLUMNS)
        done = table["error"].isna()
        texts = ["outcome", "outcome_by_interval", "error"]
        table[texts] = table[texts].astype(object)
        if done.any():
            p = table.loc[done, "p"].to_numpy(float)
            table.loc[done, "p_holm"], table.loc[done, "p_bh"] = holm(p), benjamini_hochberg(p)
            for name, low, high in (("outcome", "improvement", "improvement"), ("outcome_by_interval", "low", "high")):
                table.loc[done, name] = [sign_of(a, b) for a, b in zip(table.loc[done, low], table.loc[done, high], strict=True)]
        return table

    def counts(self) -> pd.DataFrame:
        """Positives, neutrals and negatives by point estimate (any gain is positive), by interval (95%, uncorrected) and after Holm's correction."""
        done = self._done()
        held = done["p_holm"] < LEVEL
        corrected = done["outcome"].where(held, "neutral")
        columns = {"point estimate": done["outcome"], "95% interval": done["outcome_by_interval"], "sign test after Holm": corrected}
        return pd.DataFrame(
            [{"judged by": name, **{kind: int((judged == kind).sum()) for kind in OUTCOMES}} for name, judged in columns.items()]
        )

    def sign_p(self) -> float:
        """Binomial sign test: among cells that moved, are as many positive as negative? 1 if none moved.

        It takes cells as independent, which those of one model, or of one dataset, are not.
        """
        outcome = self._done()["outcome"]
        positive, negative = int((outcome == "positive").sum()), int((outcome == "negative").sum())
        return float(binomtest(positive, positive + negative).pvalue) if positive + negative else 1.0

    def _done(self) -> pd.DataFrame:
        table = self.frame
        return table[table["error"].isna()]

    def summary_json(self) -> dict[str, Any]:
        """The sources' summary (counts, percentages, the best result, the most consistent model, baseline, steered and improvement by model and
        dataset), and under "uncertainty" what it leaves out: intervals, corrected p-values, counts by interval, the sign test.
        """
        done, table = self._done(), self.frame
        results: dict[str, dict[str, Any]] = {}
        keys = ("baseline", "steered", "improvement")
        intervals: dict[str, dict[str, Any]] = {}
        for row in table.to_dict("records"):
            ok = pd.isna(row["error"])
            results.setdefault(row["model"], {})[row["dataset"]] = {key: row[key] for key in keys} if ok else {"error": row["error"]}
            if ok:
                said = {key: float(row[key]) for key in ("low", "high", "p", "p_holm", "p_bh")} | {"n": int(row["n"])}
                intervals.setdefault(row["model"], {})[row["dataset"]] = said | {"outcome_by_interval": row["outcome_by_interval"]}
        count, by_interval, by_holm = ({kind: int(line[kind]) for kind in OUTCOMES} for line in self.counts().to_dict("records"))
        summary: dict[str, Any] = {
            "models_tested": len(results),
            "datasets": int(table["dataset"].nunique()),
            "total_experiments": len(table),
            "failed": int(table["error"].notna().sum()),
            **{f"{kind}_results": {"count": n, "percentage": 100 * n / len(done) if len(done) else 0.0} for kind, n in count.items()},
            "results": results,
            "average_improvement": {str(name): float(mean) for name, mean in done.groupby("model")["improvement"].mean().items()},
            "best_single_result": None,
            "most_consistent_model": None,
            "uncertainty": {"cells": intervals, "by_interval": by_interval, "after_holm": by_holm, "sign_test_p": self.sign_p()},
        }
        if len(done):
            best = _best(done)
            summary["best_single_result"] = {key: best[key] for key in ("model", "dataset", *keys)}
            # The sources call the model most consistent whose least improvement is highest.
            summary["most_consistent_model"] = str(done.groupby("model")["improvement"].min().idxmax())
        return summary

    def summary(self) -> str:
        """What the grid says, in a paragraph."""
        done, failed = self._done(), int(self.frame["error"].notna().sum())
        if done.empty:
            return f"All {failed} cells failed; there is nothing to say. The messages are in the table."
        rows = self.counts().set_index("judged by")
        said = [f"Of {len(done)} finished cells{f' ({failed} failed)' if failed else ''}:"]
        said.append("; ".join(f"by {name}: {', '.join(f'{row[kind]} {kind}' for kind in OUTCOMES)}" for name, row in rows.iterrows()) + ".")
        said.append(
            f"Sign test of positive against negative cells: {format_p(self.sign_p())} (as if cells were independent, which those of one model are not). "
            f"The mean improvement is {100 * done['improvement'].mean():+.1f} points on test, where it is {100 * done['validation_improvement'].mean():+.1f} on the "
            "validation problems that epoch and layer were chosen on."
        )
        best = _best(done)
        said.append(
            f"The largest of {len(done)} is {best['model']} on {best['dataset']}: {100 * best['improvement']:+.1f} points ({100 * best['low']:+.1f} to "
            f"{100 * best['high']:+.1f}; {format_p(best['p_holm'], digits=2)} after Holm's correction)."
        )
        beside = done[done["p_controls"].notna()]
        if len(beside):
            special = int((beside["p_controls"] < LEVEL).sum())
            least = 1 / (beside["controls"].min() + 1)
            said.append(
                f"In {special} of {len(beside)} cells the learned vector's effect stands out from random vectors of its norm (rank test, uncorrected; p cannot fall "
                f"below {least:.3g})."
            )
        return " ".join(said)

    def effects(self) -> pd.DataFrame:
        """What `steerlab.plots.forest` draws of finished cells: name, change, low, high, n, p."""
        done = self._done()
        one = done["model"].nunique() == 1
        names = [dataset if one else f"{model}, {dataset}" for model, dataset in zip(done["model"], done["dataset"], strict=True)]
        return done.assign(name=names, change=done["improvement"])[["name", "change", "low", "high", "n", "p"]].reset_index(drop=True)

    def origins(self) -> dict[str, Any]:
        """For provenance: the weights (sha256) and the source of the data of every finished cell."""
        pairs = zip(self.cells, self.records, strict=True)
        return {" on ".join(c.key): {"weights_sha256": r["weights"], "data": r["source"]} for c, r in pairs if "error" not in r}

    def method(self) -> list[str]:
        """How the numbers came about, in paragraphs."""
        first = self.cells[0]
        return [
            f"In each cell a vector was learned at each candidate layer ({first.layers}) on at most {first.train} train problems for at most {first.epochs} epochs; "
            f"epoch and layer were chosen by accuracy on at most {first.validation} validation problems, and the choice, at alpha = 1, was scored once on at most "
            f"{first.test} test problems.",
            "Positive, neutral and negative by point estimate count any gain or loss, as summaries of such grids often do; by interval they count cells whose "
            "95% paired interval leaves out zero, of which one in twenty does by chance alone.",
        ]

    def warnings(self) -> list[str]:
        """What a reader must know: cells that failed, trainings that broke off, interventions that did nothing."""
        said = []
        for cell, record in zip(self.cells, self.records, strict=True):
            name = " on ".join(cell.key)
            said += [f"{name} failed: {record['error']}"] if "error" in record else [f"{name}: {warning}" for warning in record["warnings"]]
        return said

    def __repr__(self) -> str:
        counts = self.counts().iloc[0]
        return f"Universality({len(self.cells)} cells: {', '.join(f'{counts[kind]} {kind}' for kind in OUTCOMES)} by point estimate, sign test p={self.sign_p():.3g})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self.frame.to_html(index=False, float_format="{:.4g}".format, escape=True)


def _best(done: pd.DataFrame) -> dict[Hashable, Any]:
    return max(done.to_dict("records"), key=lambda row: float(row["improvement"]))


def sign_of(low: float, high: float) -> str:
    """Which side of zero an interval lies on; a point is an interval of its own.

    Example:
        >>> sign_of(0.1, 0.1), sign_of(-0.1, 0.2), sign_of(-0.2, -0.1)
        ('positive', 'neutral', 'negative')
    """
    return "positive" if low > 0 else "negative" if high < 0 else "neutral"


COLUMNS = [
    "model",
    "dataset",
    "baseline",
    "steered",
    "improvement",
    "low",
    "high",
    "n",
    "became_right",
    "became_wrong",
    "p",
    "p_holm",
    "p_bh",
    "outcome",
    "outcome_by_interval",
    "validation_improvement",
    "candidates",
    "layer",
    "epoch",
    "norm",
    "controls",
    "p_controls",
    "n_train",
    "n_validation",
    "error",
]
