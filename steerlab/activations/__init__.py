"""Activation caching, in memory and on disk."""
