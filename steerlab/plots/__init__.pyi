from .controls import null_distribution as null_distribution, transition_matrix as transition_matrix
from .effects import effect_against_kl as effect_against_kl, forest as forest, pareto as pareto
from .studies import (
    context_kinds as context_kinds,
    data_size_curve as data_size_curve,
    eas_stream as eas_stream,
    reported_against_fresh as reported_against_fresh,
    specification_curve as specification_curve,
    transfer_matrix as transfer_matrix,
)
from .sweeps import (
    alpha_progression as alpha_progression,
    direction_heatmap as direction_heatmap,
    layer_alpha_heatmap as layer_alpha_heatmap,
    preview_heatmap as preview_heatmap,
    training_curve as training_curve,
)
from .theme import words as words
from .tokens import (
    critical_tokens as critical_tokens,
    headroom as headroom,
    separability as separability,
    token_magnitudes as token_magnitudes,
)
