"""Tests, intervals, corrections and power: arrays and Series in, frozen results out; no model and no torch.

Paired outcomes are compared by `sign_test` (with `paired_interval`), paired margins by `paired_t_test`, `wilcoxon_test` or
`sign_flip_test`, two families of controls by `welch_t_test`. An effect is held against control directions by `rank_test`, with
`prediction_test`, `one_sample_t_test` and `cohens_d` reported next to it. `bootstrap` gives intervals of anything else.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
