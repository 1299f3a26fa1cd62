"""Plotly figures from results. Each function takes a result and returns a figure; none runs a model or saves.

- `sweeps`: accuracy by layer and alpha, and training curves.
- `controls`: an effect among those of its controls; which answers changed.
- `tokens`: norms, projections and divergences by token and layer.
- `effects`: several effects with intervals; effect against side effects.
- `studies`: figures of whole studies.
- `theme`: the look that all figures share.
"""

from steerlab.plots.controls import null_distribution, transition_matrix
from steerlab.plots.effects import effect_against_kl, forest, pareto
from steerlab.plots.studies import context_kinds, data_size_curve, eas_stream, reported_against_fresh, transfer_matrix
from steerlab.plots.sweeps import alpha_progression, direction_heatmap, layer_alpha_heatmap, preview_heatmap, training_curve
from steerlab.plots.theme import words
from steerlab.plots.tokens import critical_tokens, headroom, separability, token_magnitudes

__all__ = [
    "alpha_progression",
    "context_kinds",
    "critical_tokens",
    "data_size_curve",
    "direction_heatmap",
    "eas_stream",
    "effect_against_kl",
    "forest",
    "headroom",
    "layer_alpha_heatmap",
    "null_distribution",
    "pareto",
    "preview_heatmap",
    "reported_against_fresh",
    "separability",
    "token_magnitudes",
    "training_curve",
    "transfer_matrix",
    "transition_matrix",
    "words",
]
