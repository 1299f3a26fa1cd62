"""Directions in the residual stream: where they come from, and whether there is one at all.

- `direction`: the `Direction` type and its arithmetic.
- `estimators`, `components`: directions from two groups of activations; all estimators by name.
- `contrasts`: what estimators share: input, sign, length.
- `function_vectors`: directions from pairs of prompts.
- `composing`: sums, projections, cosines of directions.
- `random`: families of random and shuffled-label directions.
- `prompt_vectors`: another vector for every prompt.
- `diagnostics`: is there a direction in the data, and is it stable?
"""
