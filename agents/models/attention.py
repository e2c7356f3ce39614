"""``steptool`` attention: one function for training and sampling, registered with ``transformers``.

Training, and the prefill of a new sequence, is causal attention over whole rows: the fused kernel, or plain matrix products where
these are faster. Sampling attends to a ``SlotCache``: to the keys of each row, and to those of a prefix that several rows share and
that is in memory once; the two are combined exactly, by their softmax normalizers. Neither repeats keys for grouped-query heads,
nor builds a mask over a prefix that all its rows share in full.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from steptool_env.errors import NotSupported

__all__ = ["ATTENTION", "Attended", "attend"]

ATTENTION = "steptool"
"""The name under which ``transformers`` knows it."""

SHORT = 192
"""In bfloat16 on a CPU, rows of up to so many tokens are faster without the fused kernel: its backward pass converts a lot."""

BLOCK = 2**22
"""Most attention scores in memory at once when a cache is attended to; queries are processed in blocks."""

_UNKNOWN = ("s_aux", "sinks", "softcap", "sliding_window", "position_bias", "alibi")
"""Arguments of some models that this function does not implement; None is accepted."""


class Attended(Protocol):
    """What attention needs to know of a cache during a pass, for n rows with Q queries each."""

    fresh: bool
    """No row has anything before its first query: plain causal attention."""
    mask: Tensor
    """(n, Q, W) float32, 0 where a query may attend to a key of its row, -inf elsewhere."""
    calls: int
    """How many layers have attended in this pass."""

    def shared(self, layer: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Return per shared prefix: rows (g,), keys (heads, P, D), values, and its mask (g, P) where rows share less than P."""
        ...


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    slots: Attended | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention; the signature is that of the attention functions of ``transformers``.

    Args:
        module: The layer; ``layer_idx`` is its index.
        query: (n, H, Q, D)
        key: (n, K, W, D) with H a multiple of K.
        value: (n, K, W, D)
        attention_mask: Must be None: rows are padded on the right, which causal attention never reaches.
        scaling: Factor of the scores; 1/√D if None.
        dropout: Rate of dropout on the attention weights, in training.
        slots: The cache that ``key`` and ``value`` came from; None for whole sequences.
        kwargs: What else the model passes along.

    Returns:
        (n, Q, H, D), and None for the attention weights.

    Raises:
        NotSupported: The model asks for a kind of attention that this function does not implement.
    """
    if attention_mask is not None or any(kwargs.get(name) is not None for name in _UNKNOWN):
        asked = [name for name in _UNKNOWN if kwargs.get(name) is not None] or ["a mask"]
        raise NotSupported(f"{type(module).__name__} attends with {', '.join(asked)}, which is not supported")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    if slots is not None:
        slots.calls += 1
        if not slots.fresh:
            return _cached(query, key, value, scale, slots, slots.shared(int(module.layer_idx))), None  # type: ignore[arg-type]
    return _causal(query, key, value, scale, dropout), None


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
    length = query.shape[2]
    if length > SHORT or query.is_cuda or query.dtype == torch.float32:
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
        return out.transpose(1, 2)
    scores = _scores(query, key, scale)  # (n, K, R, Q, W)
    later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    weights = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1, dtype=torch.float32).to(value.dtype)
    return _weighted(F.dropout(weights, dropout) if dropout else weights, value)


def _scores(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Return the scores (n, K, R, Q, W): the R = H / K query heads that share a key head are rows of one matrix."""
    n, heads, length, size = query.shape
    key_heads = key.shape[1]
    grouped = (query * scale).reshape(n, key_heads, heads // key_heads * length, size)
    return torch.matmul(grouped, key.transpose(2, 3)).view(n, key_heads, heads // key_heads, length, -1)


def _weighted(weights: Tensor, value: Tensor) -> Tensor:
    """Return the weighted sum of values (n, Q, H, D) for weights (n, K, R, Q, W)."""
    n, key_heads, repeats, length, width = weights.shape
    out = torch.matmul(weights.reshape(n, key_heads, repeats * length, width), value)
    return out.view(n, key_heads, repeats, length, -1).permute(0, 3, 1, 2, 4).reshape(n, length, key_heads * repeats, -1)


def _cached(query: Tensor, key: Tensor, value: Tensor, scale: float, slots: Attended, shared: list[tuple[Tensor, Tensor, Tensor, Tensor | None]]) -> Tensor:
    n, heads, length, _ = query.shape
    widest = max([key.shape[2], *(keys.shape[1] for _, keys, _, _ in shared)])
    block = max(1, BLOCK // (n * heads * widest))
    blocks = []
    for first in range(0, length, block):
        part, mask = query[:, :, first : first + block], slots.mask[:, first : first + block]
        scores = _scores(part, key, scale).float() + mask[:, None, None]
        if not shared:
            blocks.append(_weighted(torch.softmax(scores, dim=-1).to(value.dtype), value))
        else:
            blocks.append(_with_prefixes(part, scores, value, scale, shared).to(query.dtype))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _with_prefixes(query: Tensor, scores: Tensor, value: Tensor, scale: float, shared: list[tuple[Tensor, Tensor, Tensor, Tensor | None]]) -> Tensor:
    """Attend to the keys of each row, whose scores (n, K, R, Q, W) are given, and to shared prefixes; return (n, Q, H, D) float32.

    softmax over two sets of keys = (l₁·e^(m₁-m)·o₁ + l₂·e^(m₂-m)·o₂) / (l₁·e^(m₁-m) + l₂·e^(m₂-m)), where o are the
    attention outputs of each set, m its largest score and l its Σ e^(s-m).
    """
    _, heads, length, size = query.shape
    key_heads = value.shape[1]
    row_peak = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - row_peak)  # a query always sees itself: row_peak is finite
    total, out = _flat(weights.sum(-1, keepdim=True)), _weighted(weights.to(value.dtype), value).float()  # not normalized yet
    row_peak = _flat(row_peak)  # (n, Q, H, 1)
    for rows, keys, values, mask in shared:
        scaled = query[rows] * scale  # (g, H, Q, D)
        group = len(rows)
        # All rows' queries of a key head in one matrix: the prefix is read from memory once for all of them.
        flat = scaled.reshape(group, key_heads, -1, size).transpose(0, 1).reshape(key_heads, -1, size)
        prefix_scores = torch.matmul(flat, keys.transpose(1, 2)).float()  # (K, g·R·Q, P)
        if mask is not None:
            prefix_scores = (prefix_scores.view(key_heads, group, -1, prefix_scores.shape[-1]) + mask[:, None]).view_as(prefix_scores)
        peak = prefix_scores.amax(-1, keepdim=True)
        weights = torch.exp(prefix_scores - peak)
        attended = torch.matmul(weights.to(values.dtype), values).float()  # (K, g·R·Q, D)

        def ungroup(x: Tensor, group: int = group) -> Tensor:
            return x.view(key_heads, group, heads // key_heads, length, -1).permute(1, 3, 0, 2, 4).reshape(group, length, heads, -1)

        peak, mass, attended = ungroup(peak), ungroup(weights.sum(-1, keepdim=True)), ungroup(attended)
        maximum = torch.maximum(row_peak[rows], peak)
        row_factor, prefix_factor = torch.exp(row_peak[rows] - maximum), torch.exp(peak - maximum)
        out[rows] = out[rows] * row_factor + attended * prefix_factor
        total[rows] = total[rows] * row_factor + mass * prefix_factor
    return out / total


def _flat(x: Tensor) -> Tensor:
    """Return (n, K, R, Q, 1) as (n, Q, H, 1)."""
    n, key_heads, repeats, length, _ = x.shape
    return x.permute(0, 3, 1, 2, 4).reshape(n, length, key_heads * repeats, 1)


AttentionInterface.register(ATTENTION, attend)
