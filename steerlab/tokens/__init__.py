"""Single tokens.

- `magnitudes`: norms and projections by token, and the tokens at which steering acts (`critical_tokens`).
"""
