"""Sweeps over layers and alphas.

- `sweep`: `sweep` and `SweepResult`.
- `candidates`: which cells are compared, by a rule that sees no steered outcome; the relative dose.
- `choosing`: the best layer and alpha by successive halving; a grid of coefficients.
- `preview`: first-order effects from one backward pass.
- `changes`: which problems became right or wrong, and why.
- `effects`: paired effects of many vectors in one run.
- `routing`: each problem under its own direction and alpha.
"""
