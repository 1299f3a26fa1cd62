"""Directions in the residual stream: estimators, contrast pairs, composition, random directions, diagnostics."""
