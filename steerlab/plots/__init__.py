"""Figures from results. Each function takes a result and returns a Plotly figure; none runs a model or saves."""

from steerlab.plots.bars import null_distribution, transition_matrix
from steerlab.plots.claims import reported_against_fresh
from steerlab.plots.curves import alpha_progression, training_curve
from steerlab.plots.divergence import critical_tokens
from steerlab.plots.forest import forest
from steerlab.plots.frontiers import effect_against_kl
from steerlab.plots.headroom import headroom
from steerlab.plots.heatmaps import direction_heatmap, layer_alpha_heatmap, preview_heatmap
from steerlab.plots.kinds import context_kinds
from steerlab.plots.layers import separability
from steerlab.plots.positions import token_magnitudes
from steerlab.plots.sizes import data_size_curve
from steerlab.plots.streams import eas_stream
from steerlab.plots.theme import words
from steerlab.plots.tradeoffs import pareto
from steerlab.plots.transfers import transfer_matrix

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
