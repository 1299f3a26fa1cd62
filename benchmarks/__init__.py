"""Measured speed of the fast path against other ways to do the same work; run by ``make bench``, not a test."""
