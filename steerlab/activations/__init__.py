"""Cached activations.

- `cache`: `cache_activations`, `Activations`, and plain arrays as activations.
- `files`: the folder of a cache on disk.
"""
