"""The two classes of TransformerLens models: 3.x has both, 4.x only the bridge."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

try:
    from transformer_lens import HookedTransformer
except ImportError:
    HookedTransformer = None

__all__ = ["BACKENDS", "HookedTransformer", "Model", "TransformerBridge"]

if TYPE_CHECKING:

    class Model(Protocol):
        """A model of either class, as far as steerlab uses it; annotated everywhere, so that no other module names a class."""

        @property
        def cfg(self) -> Any:
            """The shape: n_layers, d_model, d_vocab, …"""

        @property
        def tokenizer(self) -> Any:
            """A tokenizer of transformers, or None."""

        @property
        def hook_dict(self) -> dict[str, HookPoint]:
            """The hook points by name."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
        def __getattr__(self, name: str) -> Any: ...  # blocks, ln_final, W_U, b_U: only one of the classes declares them
        def to_tokens(self, input: Any, /) -> Any: ...
        def parameters(self) -> Iterator[torch.nn.Parameter]: ...
        def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]: ...
        def named_buffers(self) -> Iterator[tuple[str, torch.Tensor]]: ...
        def modules(self) -> Iterator[Any]: ...
        def named_modules(self) -> Iterator[tuple[str, torch.nn.Module]]: ...
        def eval(self) -> Any: ...

else:
    Model = Any  # what is no model is refused by `steerlab.models.model.backend_of`, in words
BACKENDS = ("auto", "hooked", "bridge")
