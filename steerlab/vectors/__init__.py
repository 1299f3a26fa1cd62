"""Files of vectors.

- `files`: save and load directions and context-dependent vectors.
"""
