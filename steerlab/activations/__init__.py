"""Cached activations.

- `cache`: `cache_activations`, `Activations`, and plain arrays as activations.
- `positions`: which positions of a prompt are cached or steered.
- `files`: the folder of a cache on disk.
"""
