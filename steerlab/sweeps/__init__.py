"""Sweeps of layers and coefficients: accuracies, the choice of a cell, previews, changed problems."""
