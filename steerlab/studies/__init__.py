"""Whole experiments: the main protocol, methods, transfer, mixtures, stability, grids of models and tasks."""
