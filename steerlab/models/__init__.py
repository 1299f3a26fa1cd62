"""Load a model; run rows of tokens to a block, or from a block; read out."""
