"""How the numbers of an experiment came about: for its report, and as a paragraph for a paper, with references."""

from collections.abc import Mapping
from typing import Any

from steerlab.questions import KINDS
from steerlab.significance import Significance, percent
from steerlab.statistics._format import format_p
from steerlab.tasks.problems import left_out

DOUBTS: Mapping[str, str] = {
    "shuffled_labels": "mean differences of shuffled labels ask whether this estimator finds as much where there is nothing to find",
    "equal_kl": "directions of equal KL are as long as it takes to change other text as much as the direction does",
    "covariance_matched": "directions drawn from the activations' covariance lie where activations vary",
    "orthogonal": "orthogonal directions have nothing of the direction",
}
REFERENCES: Mapping[str, str] = {
    "Davison and Hinkley 1997": "Davison, A. C., and Hinkley, D. V. (1997). Bootstrap Methods and their Application. Cambridge University Press.",
    "Holm 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 65-70.",
    "McNemar 1947": "McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions or percentages. Psychometrika 12, 153-157.",
    "Nanda and Bloom 2022": "Nanda, N., and Bloom, J. (2022). TransformerLens. Software, github.com/TransformerLensOrg/TransformerLens.",
    "Newcombe 1998": "Newcombe, R. G. (1998). Improved confidence intervals for the difference between binomial proportions based on paired data. "
    "Statistics in Medicine 17, 2635-2650.",
    "Phipson and Smyth 2010": "Phipson, B., and Smyth, G. K. (2010). Permutation P-values should never be zero. Statistical Applications in Genetics and "
    "Molecular Biology 9, article 39.",
    "Rimsky et al. 2024": "Rimsky, N., Gabrieli, N., Schulz, J., Tong, M., Hubinger, E., and Turner, A. (2024). Steering Llama 2 via Contrastive Activation "
    "Addition. ACL 2024.",
    "Westfall and Young 1993": "Westfall, P. H., and Young, S. S. (1993). Resampling-Based Multiple Testing. Wiley.",
}


def method(significance: Significance) -> list[str]:
    """How the numbers came about, split by split."""
    e = significance.experiment
    d, n = e.direction, e.settings["n_controls"]
    cells = len(e.validation.accuracy().query("alpha != 0"))
    return [
        *(f"Data: {said}." for said in left_out(e.settings["task"])),
        f"Train ({e.train.n} problems, accuracy {percent(e.train.accuracy)}): {d.method.get('n_correct')} problems answered rightly and as many "
        f"answered wrongly were drawn; the direction is the difference of their mean activations at {d.site}, position {e.settings['cache_positions']}.",
        f"Validation ({e.validation.baseline.n} problems, accuracy {percent(e.validation.baseline.accuracy)}): {cells} cells of layer and alpha were "
        f"tried; layer {e.layer} and alpha {e.alpha:+g} had the highest accuracy (ties: the larger mean margin). The max-statistic test corrects for "
        "all of them: it flips the sign of each problem's whole row of changes, which keeps the dependence between cells.",
        f"Test ({e.test.baseline.n} problems) had no say in any choice. Operator {e.settings['operator']}, positions "
        f"{e.settings['positions']}; scorer {e.test.baseline.scorer}.",
        f"Controls: {n} isotropic Gaussian directions with the direction's norm, at the same place and alpha. An effect is as extreme as it is "
        f"far from the median of all {n + 1} effects, on either side. The p-value is (1 + the number of controls at least as extreme) / ({n} + 1), ties counted "
        f"against the direction; it cannot be below {1 / (n + 1):.2g}. "
        "The t-test and Cohen's d compare the controls with the direction's effect as if that were known without error; they are shown because "
        "the field reports them, and no conclusion rests on them.",
        *(
            [f"Controls of other kinds answer other doubts: {'; '.join(DOUBTS[c.family] for c in e.families if c.family in DOUBTS)}."]
            if e.families
            else []
        ),
        *([str(d.model["special_tokens"])] if "special_tokens" in d.model else []),
        f"Side effects: KL(unsteered || steered) of next-token distributions, perplexity, entropy and changed predictions, on {e.settings['texts']}.",
        "Paired comparisons use the exact sign test on problems that changed sides; their interval is Newcombe's method 10. Intervals of single "
        "proportions are Wilson's.",
    ]


def paragraph(significance: Significance, provenance: Mapping[str, Any]) -> str:
    """A Methods paragraph to paste into a paper: what was done, with the numbers, and whose methods they are.

    Args:
        significance: the evidence.
        provenance: of the run: model and versions.
    """
    e, model, versions = significance.experiment, provenance["model"], provenance["versions"]
    s, d = e.settings, e.direction
    cells = len(e.validation.accuracy().query("alpha != 0"))
    n, tests = s["n_controls"], len(significance.tests)
    size = (
        f" ({model['n_layers']} blocks, residual stream of {model['d_model']} dimensions, {model['processing']} weights, {model['dtype']})"
        if "n_layers" in model
        else ""
    )
    others = "; ".join(KINDS.get(c.family, c.family) for c in e.families)
    alphas = ", ".join(f"{c.alpha:+g}" for c in e.controls)
    acted = {"all": "every position", "last": "the last position"}.get(str(s["positions"]), f"positions {s['positions']}")
    sentences = [
        f"We steered {model['name']}{size} with TransformerLens {versions.get('transformer-lens', '')} (Nanda and Bloom 2022).",
        *([str(model["special_tokens"])] if "special_tokens" in model else []),
        f"The task was {e.task}, with {e.train.n} training, {e.validation.baseline.n} validation and {e.test.baseline.n} test problems.",
        f"The steering direction was the difference between the mean activations of {d.method.get('n_correct')} training problems that the model answered "
        f"rightly and as many that it answered wrongly (Rimsky et al. 2024), at {d.site} of block {e.layer} (counted from 0), {_measured(s['cache_positions'])}.",
        f"It was applied at {acted} (operator: {s['operator']}, coefficient alpha times the direction of norm {d.norm:.3g}).",
        f"Block and alpha ({e.alpha:+g}) were chosen on the validation problems among {cells} combinations; the familywise p-value of that choice comes from a "
        f"max-statistic permutation test (Westfall and Young 1993): {format_p(significance.questions.chosen_p, digits=2)}. Test problems had no say in any choice.",
        f"At alpha {alphas} we compared the direction with {n} isotropic Gaussian directions of equal norm: p = (1 + r) / ({n} + 1), where r counts the controls "
        "whose effect lies at least as far from the median of all effects (two-sided; Davison and Hinkley 1997; Phipson and Smyth 2010), with Holm's correction "
        f"over {tests} tests (Holm 1979).",
        *([f"At alpha {e.alpha:+g} we also used {n} controls of each of these kinds: {others}."] if others else []),
        "Accuracies with and without steering were compared by the exact McNemar test (McNemar 1947), with 95% intervals by Newcombe's method 10 (Newcombe 1998).",
        f"All randomness derives from seed {s['seed']}; the analysis was run with steerlab {versions.get('steerlab', '')}, torch {versions.get('torch', '')}.",
    ]
    return " ".join(sentences)


def _measured(positions: object) -> str:
    return {"last": "at the last prompt token", "mean": "averaged over prompt tokens"}.get(str(positions), f"at positions {positions}")


def references(text: str) -> list[str]:
    """The references that a text cites, in alphabetical order."""
    return [entry for key, entry in sorted(REFERENCES.items()) if key in text]
