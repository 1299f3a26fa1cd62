"""Plotly figures from results. Each function takes a result and returns a figure; none runs a model or saves.

- `sweeps`: accuracy by layer and alpha, and training curves.
- `controls`: an effect among those of its controls; which answers changed.
- `tokens`: norms, projections and divergences by token and layer.
- `effects`: several effects with intervals; effect against side effects.
- `studies`: figures of whole studies.
- `theme`: the look that all figures share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
