"""How much arithmetic the work needs, how much was done, and how fast this machine multiplies matrices."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.rivals import Cell, block
from benchmarks.shapes import Shape

ROWS = 1000  # of the matrix products whose speed is the limit; more rows are no faster


def sync(device: torch.device) -> None:
    """Wait for what a GPU still has to do; timings stand between two of these."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def needed(shape: Shape, cells: Sequence[Cell], positions: str, *, new_tokens: int = 0, problems: slice = slice(None)) -> float:
    """FLOPs of the work when nothing is done twice: counted by hand, with a multiplication and an addition as two.

    Every prompt once through all blocks; every cell from the block behind its layer, on all positions or on the last one;
    answer columns at the last position. With generation, the other new tokens through all blocks and every new token's
    full unembedding. Attention counts all pairs of positions, as kernels compute them. LayerNorm and the like are left out.
    """
    config = shape.hf.config
    width, layers = config.hidden_size, shape.n_layers
    weights = sum(p.numel() for p in block(shape.hf, 0).parameters() if p.ndim == 2)
    heads = config.num_attention_heads * (getattr(config, "head_dim", None) or width // config.num_attention_heads)
    total = 0.0
    for row in shape.rows[problems]:
        n = len(row.tokens)

        def through(run: int, context: int) -> float:
            return run * (2.0 * weights + 4.0 * heads * context)

        columns = config.vocab_size * new_tokens if new_tokens else len(row.reads[0].tokens)
        behind = 2.0 * width * columns + sum(layers * through(1, n + t) for t in range(1, new_tokens))
        total += layers * through(n, n) + behind
        for cell in cells:
            if cell.alpha != 0:  # alpha = 0 is the baseline
                resumed = layers - 1 - cell.layer
                total += resumed * (through(n, n) if positions == "all" else through(1, n)) + behind
    return total


def _attention_for_cpu(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def counted(work: Callable[[], Any]) -> float:
    """FLOPs that a run really did, as torch counts them; its own table lacks the CPU's attention kernel."""
    custom = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_for_cpu}
    with FlopCounterMode(display=False, custom_mapping=custom) as counter:
        work()
    return float(counter.get_total_flops())


def multiplication_speed(shape: Shape, dtype: torch.dtype | None = None, *, repeats: int = 3) -> float:
    """FLOPs per second of the matrix products of one block (attention in, attention out, MLP up, MLP down) on `ROWS` rows."""
    config, device, dtype = shape.hf.config, shape.device, dtype or shape.hf.dtype
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    flops = seconds = 0.0
    for a, b in ((width, 3 * width), (width, width), (width, inner), (inner, width)):
        left, right = torch.randn(ROWS, a, device=device, dtype=dtype), torch.randn(a, b, device=device, dtype=dtype)
        out = torch.empty(ROWS, b, device=device, dtype=dtype)
        times = []
        for _ in range(repeats):
            sync(device)
            start = time.perf_counter()
            torch.mm(left, right, out=out)
            sync(device)
            times.append(time.perf_counter() - start)
        flops, seconds = flops + 2.0 * ROWS * a * b, seconds + min(times)
    return flops / seconds
