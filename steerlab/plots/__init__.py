"""Figures from results. Each function takes a result and returns a Plotly figure; none runs a model or saves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
