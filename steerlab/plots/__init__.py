"""Figures from results. Each function takes a result and returns a Plotly figure; none runs a model or saves."""

from steerlab.plots.bars import null_distribution, transition_matrix
from steerlab.plots.curves import alpha_progression, training_curve
from steerlab.plots.divergence import critical_tokens
from steerlab.plots.forest import forest
from steerlab.plots.headroom import headroom
from steerlab.plots.heatmaps import direction_heatmap, layer_alpha_heatmap, preview_heatmap
from steerlab.plots.kinds import context_kinds
from steerlab.plots.layers import separability
from steerlab.plots.positions import token_magnitudes
from steerlab.plots.theme import words
from steerlab.plots.tradeoffs import pareto

__all__ = [
    "alpha_progression",
    "context_kinds",
    "critical_tokens",
    "direction_heatmap",
    "forest",
    "headroom",
    "layer_alpha_heatmap",
    "null_distribution",
    "pareto",
    "preview_heatmap",
    "separability",
    "token_magnitudes",
    "training_curve",
    "transition_matrix",
    "words",
]
