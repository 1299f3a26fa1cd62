"""The two classes of TransformerLens models: 3.x has both, 4.x only the bridge."""

from typing import Any

from transformer_lens.model_bridge import TransformerBridge

try:
    from transformer_lens import HookedTransformer
except ImportError:
    HookedTransformer = None

__all__ = ["BACKENDS", "HookedTransformer", "Model", "TransformerBridge"]

Model = Any  # a HookedTransformer or a TransformerBridge; annotated here so that no other module names a class
BACKENDS = ("auto", "hooked", "bridge")
