"""``steptool`` attention: one function for training and sampling, registered with ``transformers``.

Training, and the prefill of a new sequence, is causal attention over whole rows: the fused kernel, or plain matrix products where
these are faster. Sampling attends to a ``SlotCache``: to the keys of each row, and to those of a prefix that several rows share and
that is in memory once; the two are combined exactly, by their softmax normalizers. Neither repeats keys for grouped-query heads,
nor builds a mask over a prefix that all its rows share in full.

It knows sliding windows and chunks (``patterns.py``), attention sinks, capped scores, and keys and values that are cached as a
latent (multi-head latent attention). For any other kind of attention it raises ``NotSupported``: such a model keeps its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from steptool_env.errors import NotSupported

from .patterns import ATTENTION, Branches, Pattern, allowed
from .tree import tree_of_this_pass
from .tree_attention import attend_tree

__all__ = ["ATTENTION", "Attended", "Shared", "attend", "attending"]

SHORT = 192
"""In bfloat16 on a CPU, rows of up to so many tokens are faster without the fused kernel: its backward pass converts a lot."""

BLOCK = 2**22
"""Most attention scores in memory at once when a cache is attended to; queries are processed in blocks."""

_UNKNOWN = ("position_bias", "alibi")
"""Arguments of some models that this function does not implement; None is accepted."""


class Shared(NamedTuple):
    """A prefix that g of the rows of a pass begin with, or the part of it that is within reach: P keys."""

    rows: Tensor
    """(g,)"""
    keys: Tensor
    """(heads, P, D)"""
    values: Tensor
    """(heads, P, D)"""
    mask: Tensor | None
    """(g, 1, P), or (g, Q, P) where it differs from query to query: 0 or -inf. None: all attend to all."""


class Attended(Protocol):
    """What attention needs to know of a cache during a pass, for n rows with Q queries each."""

    fresh: bool
    """No row has anything before its first query: plain causal attention."""
    calls: int
    """How many layers have attended in this pass."""
    updated: int
    """The layer whose keys and values were written last."""

    def own(self, pattern: Pattern | None) -> tuple[int, Tensor]:
        """Return the first column of the rows' own keys that is within reach, and the mask (n, Q, W) from there: 0 or -inf."""
        ...

    def shared(self, layer: int, pattern: Pattern | None) -> list[Shared]:
        """Return the prefixes of the rows."""
        ...


_ATTENDED: ContextVar[Attended | None] = ContextVar("attended", default=None)


@contextmanager
def attending(slots: Attended) -> Iterator[None]:
    """Let attention attend to this cache within the block. Not an argument of the model: some do not hand theirs on to their layers."""
    token = _ATTENDED.set(slots)
    try:
        yield
    finally:
        _ATTENDED.reset(token)


class _Rule(NamedTuple):
    """How scores become weights."""

    scale: float
    pattern: Pattern | None
    cap: float | None
    """Scores s become cap·tanh(s / cap)."""
    sinks: Tensor | None
    """(H,) a score per head that takes its part of the softmax and has no value."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Pattern | Branches | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention; the signature is that of the attention functions of ``transformers``.

    Args:
        module: The layer; ``layer_idx`` is its index, and ``expand_kv``, if it has one, turns what is cached into keys and values.
        query: (n, H, Q, D)
        key: (n, K, W, D) with H a multiple of K.
        value: (n, K, W, D')
        attention_mask: None, or a limit on how far back queries attend. There is no padding: rows are padded on the right, which
            causal attention never reaches. Or the tree that the tokens are in.
        scaling: Factor of the scores; 1/√D if None.
        dropout: Rate of dropout on the attention weights, in training.
        softcap: Bound of the scores.
        s_aux: (H,) attention sinks.
        kwargs: What else the model passes along.

    Returns:
        (n, Q, H, D'), and None for the attention weights.

    Raises:
        NotSupported: The model asks for a kind of attention that this function does not implement.
    """
    asked = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    if asked or not isinstance(attention_mask, (Pattern, Branches, type(None))):
        raise NotSupported(f"{type(module).__name__} attends with {', '.join(asked) or 'a mask'}, which is not supported")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    if isinstance(attention_mask, Branches):
        if dropout:
            raise NotSupported("dropout would drop the same of all sequences that share a token")
        return attend_tree(query, key, value, attention_mask.tree, attention_mask.pattern, scale, softcap, s_aux), None
    if tree_of_this_pass() is not None:
        raise NotSupported(f"{type(module).__name__} attends without asking for a mask")
    rule = _Rule(scale, attention_mask, softcap, s_aux)
    slots = _ATTENDED.get()
    if slots is not None:
        layer = getattr(module, "layer_idx", None)
        if layer is None or layer != slots.updated:  # it would attend to the wrong keys
            raise NotSupported(f"{type(module).__name__} attends to keys that it did not put into the cache")
        slots.calls += 1
        if not slots.fresh:
            return _cached(query, key, value, rule, slots, _expanded(module, slots.shared(layer, rule.pattern))), None
    return _causal(query, key, value, rule, dropout), None


def _expanded(module: nn.Module, shared: list[Shared]) -> list[Shared]:
    expand: Any = getattr(module, "expand_kv", None)
    if expand is None:
        return shared
    expanded = [(one, expand(one.keys[None], one.values[None])) for one in shared]
    return [one._replace(keys=keys[0], values=values[0]) for one, (keys, values) in expanded]


def _causal(query: Tensor, key: Tensor, value: Tensor, rule: _Rule, dropout: float) -> Tensor:
    length = query.shape[2]
    pattern = rule.pattern if rule.pattern is not None and length > rule.pattern.size else None
    plain = rule.cap is None and rule.sinks is None
    if plain and (length > SHORT or query.is_cuda or query.dtype == torch.float32):
        grouped = query.shape[1] != key.shape[1]
        mask = None if pattern is None else allowed(pattern, length, query.device)
        if mask is not None and grouped and query.is_cuda:  # no fused kernel there takes both a mask and grouped heads
            repeats = query.shape[1] // key.shape[1]
            key, value, grouped = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1), False
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=rule.scale, enable_gqa=grouped)
        return out.transpose(1, 2)
    scores = _scores(query, key, rule)  # (n, K, R, Q, W)
    weights = _softmax(scores.masked_fill(~allowed(pattern, length, query.device), -torch.inf), rule.sinks).to(value.dtype)
    return _weighted(F.dropout(weights, dropout) if dropout else weights, value)


def _scores(query: Tensor, key: Tensor, rule: _Rule) -> Tensor:
    """Return the scores (n, K, R, Q, W): the R = H / K query heads that share a key head are rows of one matrix."""
    n, heads, length, size = query.shape
    key_heads = key.shape[1]
    grouped = (query * rule.scale).reshape(n, key_heads, heads // key_heads * length, size)
    return _capped(torch.matmul(grouped, key.transpose(2, 3)), rule).view(n, key_heads, heads // key_heads, length, -1)


def _capped(scores: Tensor, rule: _Rule) -> Tensor:
    return scores if rule.cap is None else rule.cap * torch.tanh(scores / rule.cap)


def _sinks_like(scores: Tensor, sinks: Tensor) -> Tensor:
    """Return the sinks (H,) as (1, K, R, 1, 1), for scores (n, K, R, Q, W)."""
    return sinks.view(1, scores.shape[1], scores.shape[2], 1, 1)


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Return the weights in float32."""
    if sinks is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32)
    column = _sinks_like(scores, sinks).to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1, dtype=torch.float32)[..., :-1]


def _weighted(weights: Tensor, value: Tensor) -> Tensor:
    """Return the weighted sum of values (n, Q, H, D) for weights (n, K, R, Q, W)."""
    n, key_heads, repeats, length, width = weights.shape
    out = torch.matmul(weights.reshape(n, key_heads, repeats * length, width), value)
    return out.view(n, key_heads, repeats, length, -1).permute(0, 3, 1, 2, 4).reshape(n, length, key_heads * repeats, -1)


def _cached(query: Tensor, key: Tensor, value: Tensor, rule: _Rule, slots: Attended, shared: list[Shared]) -> Tensor:
    n, heads, length, _ = query.shape
    start, own = slots.own(rule.pattern)
    if start:
        key, value = key[:, :, start:], value[:, :, start:]
    widest = max([key.shape[2], *(one.keys.shape[1] for one in shared)])
    block = max(1, BLOCK // (n * heads * widest))
    blocks = []
    for first in range(0, length, block):
        part, mask = query[:, :, first : first + block], own[:, first : first + block]
        scores = _scores(part, key, rule).float() + mask[:, None, None]
        if not shared:
            blocks.append(_weighted(_softmax(scores, rule.sinks).to(value.dtype), value))
            continue
        theirs = [one if one.mask is None or one.mask.shape[1] == 1 else one._replace(mask=one.mask[:, first : first + block]) for one in shared]
        blocks.append(_with_prefixes(part, scores, value, rule, theirs).to(query.dtype))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _with_prefixes(query: Tensor, scores: Tensor, value: Tensor, rule: _Rule, shared: list[Shared]) -> Tensor:
    """Attend to the keys of each row, whose scores (n, K, R, Q, W) are given, and to shared prefixes; return (n, Q, H, D) float32.

    softmax over two sets of keys = (l₁·e^(m₁-m)·o₁ + l₂·e^(m₂-m)·o₂) / (l₁·e^(m₁-m) + l₂·e^(m₂-m)), where o are the
    attention outputs of each set, m its largest score and l its Σ e^(s-m).
    """
    _, heads, length, size = query.shape
    key_heads = value.shape[1]
    row_peak = scores.amax(-1, keepdim=True)  # a query always sees itself: row_peak is finite
    if rule.sinks is not None:
        sinks = _sinks_like(scores, rule.sinks).float()
        row_peak = torch.maximum(row_peak, sinks)
    weights = torch.exp(scores - row_peak)
    mass = weights.sum(-1, keepdim=True)
    if rule.sinks is not None:
        mass = mass + torch.exp(sinks - row_peak)
    total, out = _flat(mass), _weighted(weights.to(value.dtype), value).float()  # not normalized yet
    row_peak = _flat(row_peak)  # (n, Q, H, 1)
    for rows, keys, values, mask in shared:
        scaled = query[rows] * rule.scale  # (g, H, Q, D)
        group = len(rows)
        # All rows' queries of a key head in one matrix: the prefix is read from memory once for all of them.
        flat = scaled.reshape(group, key_heads, -1, size).transpose(0, 1).reshape(key_heads, -1, size)
        prefix_scores = _capped(torch.matmul(flat, keys.transpose(1, 2)), rule).float()  # (K, g·R·Q, P)
        if mask is not None:
            apart = prefix_scores.view(key_heads, group, heads // key_heads, length, -1)
            prefix_scores = (apart + mask[:, None]).view_as(prefix_scores)
        # Finite also where a query attends to nothing of the prefix.
        peak = prefix_scores.amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)
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
