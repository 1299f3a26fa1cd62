"""Tests, intervals, corrections, power and verdicts: arrays and Series in, frozen results out; no model and no torch.

- `paired`: the same problems before and after: sign test, signed ranks, sign flips, paired t.
- `controls`: one effect among those of control directions: the rank test and its like.
- `sequential`: one pipeline among control pipelines, drawn until the answer is clear.
- `verdicts`: what the tests of one cell say together.
- `multiplicity`: Holm, Benjamini-Hochberg, the best cell of a grid.
- `groups`, `templates`: problems that are not independent: the design effect; effects over prompt templates.
- `pooling`: many effects as one, and each drawn towards their mean.
- `intervals`, `effects`, `t_tests`: intervals and the bootstrap; effect sizes; Student's t and Welch's.
- `dose_response`, `dose_models`: does the response follow alpha, and how?
- `equivalence`, `power`: no effect larger than a margin; what a test could have seen, and planning.
- `separability`: do two groups of vectors differ along a stable direction?
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
