"""Operators, positions, `steer`, and the engine that runs many interventions over one batch."""
