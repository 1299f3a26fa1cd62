"""Operators, positions, `steer`, and the engine that runs many interventions over one batch."""

ALPHAS: tuple[float, ...] = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
