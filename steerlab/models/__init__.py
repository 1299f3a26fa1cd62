"""The model layer: load a model, run rows of tokens to a block or from a block, read out.

- `loading`, `hooked`, `checkpoints`, `backends`: `load_model`; conversion to HookedTransformer; local directories; the two classes of TransformerLens.
- `model`: a model's shape, hook points and tokens.
- `encoding`: special tokens before a text, stop tokens, text to tokens and back.
- `passes`, `shortcuts`: plain runs; checked ways to run less than everything.
- `kv_cache`: keys and values that are kept and reused.
- `batches`, `reading`, `generation`: rows in batches; read what a scorer asks for; continue prompts.
- `memory`, `threads`, `forecasts`: batch sizes, CPU threads, how long a job takes.
- `weights`: whether two models have the same weights.
"""
