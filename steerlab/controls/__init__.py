"""Controls for one direction at one layer and alpha.

- `control`: `random_control` and `match_kl`: would other directions of the same size, or of the same KL, do the same?
- `side_effects`: what steering changes on other text and other tasks.
- `texts`: the neutral sentences that side effects are measured on.
"""
