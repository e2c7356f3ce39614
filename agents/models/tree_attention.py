"""Attention in a ``Tree``: each token attends to the tokens before it on its own path, at the cost of these pairs and no others.

Below a node, all tokens attend to all of its keys, and they stand in one piece. So attention has two kinds of parts: within each node it is
causal, and between a node and everything below it nothing is masked. Each part is computed on its own; parts with the same queries are
combined by their softmax normalizers, l = log Σ e^s:

    o = Σ_p e^(l_p - l)·o_p,    l = log Σ_p e^(l_p)

The backward pass needs no such combination: with l and o of the whole, the gradient of a part's scores is e^(s - l)·(∂o·v - ∂o·o),
which is what the backward pass of fused attention computes when it is given them. So both passes go part by part, and no mask over
the whole row and no copy of shared keys is ever in memory. Source of the combination: Milakov and Gimelshein, "Online normalizer
calculation for softmax" (arXiv 1805.02867); of the backward pass by parts: Liu et al., "Ring Attention" (arXiv 2310.01889).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .patterns import Pattern
from .tree import Tree
from .tree_plan import NEVER, Own, Plan, plan_of

__all__ = ["attend_tree"]

SMALL = 2**16
"""In bfloat16 on a CPU, parts of up to so many scores are faster as plain products: the fused backward pass converts a lot."""
BLOCK = 2**22
"""Most scores in memory at once where attention is not fused; queries are processed in blocks."""


def attend_tree(
    query: Tensor, key: Tensor, value: Tensor, tree: Tree, pattern: Pattern | None, scale: float, cap: float | None, sinks: Tensor | None
) -> Tensor:
    """Compute attention.

    Args:
        query: (1, H, T, D)
        key: (1, K, T, D) with H a multiple of K.
        value: (1, K, T, D')
        tree: Where the tokens are.
        pattern: A limit on how far back they attend.
        scale: Factor of the scores.
        cap: Scores s become cap·tanh(s / cap); None: they stay.
        sinks: (H,) a score per head that takes its part of the softmax and has no value.

    Returns:
        (1, T, H, D')
    """
    size = value.shape[-1]
    device = query.device.type
    if torch.is_autocast_enabled(device):  # as fused attention does there
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if size != query.shape[-1]:  # fused attention wants the same; zeros change neither scores nor values
        widest = max(size, query.shape[-1])
        query, key, value = (F.pad(x, (0, widest - x.shape[-1])) for x in (query, key, value))
    limit = (pattern.size, pattern.chunked) if pattern is not None else (0, False)
    out, _ = torch.ops.steptool.tree_attention(query, key, value, sinks, tree.layout, scale, cap or 0.0, *limit)
    return out[..., :size].transpose(1, 2)  # type: ignore[no-any-return]


def _as_rows(x: Tensor, part: Own) -> Tensor:
    """Return the tokens (1, H, T, D) or (1, H, T) of a part as rows, (rows, H, L, D) or (rows, H, L)."""
    if isinstance(part.take, slice):
        return x[:, :, part.take]
    heads_first = x[0]
    # Selected along the outermost dimension in memory, and not by [:, take]: that takes ten times as long.
    if heads_first.stride(1) >= heads_first.stride(0):
        taken = heads_first.transpose(0, 1).index_select(0, part.take).transpose(0, 1)
    else:
        taken = heads_first.index_select(1, part.take)
    return taken.unflatten(1, (part.rows, -1)).transpose(0, 1)  # type: ignore[no-any-return]


def _as_tokens(rows: Sequence[Tensor], plan: Plan) -> Tensor:
    """Return the rows of all parts, (rows, H, L, D) or (rows, H, L) each, as tokens in the order of the tree, (1, H, T, D) or (1, H, T)."""
    flat = [its.transpose(1, 2).flatten(0, 1) for its in rows]  # (rows·L, H, D), which is how the fused kernel has it in memory
    flat = [its if part.real is None else its.index_select(0, part.real) for its, part in zip(flat, plan.own, strict=True)]
    tokens = flat[0] if len(flat) == 1 else torch.cat(flat)
    return (tokens if plan.places is None else tokens.index_select(0, plan.places))[None].transpose(1, 2)


# -------------------------------------------------------------------- one part
def _fused(query: Tensor, key: Tensor, cap: float) -> bool:
    """Whether fused attention does it, and is faster."""
    small = query.dtype == torch.bfloat16 and query.shape[2] * key.shape[2] <= SMALL
    return query.device.type == "cpu" and not cap and not small


def _forward(query: Tensor, key: Tensor, value: Tensor, scale: float, cap: float, causal: bool, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return o (n, H, Q, D) and l (n, H, Q) float32 of a part: queries (n, H, Q, D), keys and values (n, K, P, D)."""
    if _fused(query, key, cap):
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return fused(query, key, value, 0.0, causal, attn_mask=None if mask is None else mask[None, None], scale=scale)  # type: ignore[no-any-return]
    outs, totals = [], []
    for first, last in _blocks(query, key):
        scores = _scores(query[:, :, first:last], key, scale, cap, first if causal else None, None if mask is None else mask[first:last])[0]
        peak = scores.amax(-1, keepdim=True)
        weights = torch.exp(scores - peak)
        mass = weights.sum(-1, keepdim=True)
        out = torch.matmul((weights / mass).to(value.dtype).flatten(2, 3), value)
        outs.append(out.view(*scores.shape[:-1], -1).flatten(1, 2))
        totals.append((peak + mass.log())[..., 0].flatten(1, 2))
    return torch.cat(outs, dim=2), torch.cat(totals, dim=2)


def _backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, total: Tensor, scale: float, cap: float, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a part with respect to its queries, keys and values; ``out`` and ``total`` are o and l of the whole."""
    if _fused(query, key, cap):
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        mask = None if mask is None else mask[None, None]
        return fused(gradient, query, key, value, out, total, 0.0, causal, attn_mask=mask, scale=scale)  # type: ignore[no-any-return]
    heads = key.shape[1]
    by_key_head = (1, (heads, query.shape[1] // heads))  # (n, H, Q, D) -> (n, K, R, Q, D)
    queries = []
    keys, values = torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)
    for first, last in _blocks(query, key):
        part, its = query[:, :, first:last], gradient[:, :, first:last]
        scores, slope = _scores(part, key, scale, cap, first if causal else None, None if mask is None else mask[first:last])
        weights = torch.exp(scores - total[:, :, first:last, None].unflatten(*by_key_head))
        delta = (its.float() * out[:, :, first:last].float()).sum(-1, keepdim=True).unflatten(*by_key_head)
        its = its.unflatten(*by_key_head).flatten(2, 3)  # (n, K, R·Q, D)
        values += torch.matmul(weights.to(value.dtype).flatten(2, 3).transpose(2, 3), its)
        change = weights * (torch.matmul(its, value.transpose(2, 3)).view_as(weights) - delta)
        if slope is not None:
            change = change * slope
        flat = (change * scale).to(query.dtype).flatten(2, 3)
        queries.append(torch.matmul(flat, key).view(*scores.shape[:-1], -1).flatten(1, 2))
        keys += torch.matmul(flat.transpose(2, 3), part.unflatten(*by_key_head).flatten(2, 3))
    return torch.cat(queries, dim=2), keys, values


def _blocks(query: Tensor, key: Tensor) -> list[tuple[int, int]]:
    n, heads, length, _ = query.shape
    block = max(1, BLOCK // (n * heads * key.shape[2]))
    return [(first, min(first + block, length)) for first in range(0, length, block)]


def _scores(query: Tensor, key: Tensor, scale: float, cap: float, first: int | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the scores (n, K, R, Q, P) in float32, and the derivative of capping them; ``first``: the place of the first query, if causal."""
    n, heads, length, size = query.shape
    key_heads = key.shape[1]
    grouped = (query * scale).reshape(n, key_heads, heads // key_heads * length, size)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float().view(n, key_heads, heads // key_heads, length, -1)
    slope = None
    if cap:
        bent = torch.tanh(scores / cap)
        scores, slope = cap * bent, 1.0 - bent * bent
    if first is not None:
        places = torch.arange(key.shape[2], device=key.device)
        scores = scores.masked_fill(places > torch.arange(first, first + length, device=key.device)[:, None], NEVER)
    return scores if mask is None else scores + mask.float(), slope


# -------------------------------------------------------------------- all parts
# One operator, so that gradient checkpointing sees one result to keep, and a compiler one thing to leave alone.
@torch.library.custom_op("steptool::tree_attention", mutates_args=())
def _tree_attention(
    query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, layout: Tensor, scale: float, cap: float, size: int, chunked: bool
) -> tuple[Tensor, Tensor]:
    plan = plan_of(tuple(layout.flatten().tolist()), size, chunked, query.device, query.dtype)
    with torch.autocast(query.device.type, enabled=False):
        found = []
        for part in plan.own:
            q, k, v = (_as_rows(x, part) for x in (query, key, value))
            found.append(_forward(q, k, v, scale, cap, part.mask is None, part.mask))
        out, total = _as_tokens([rows for rows, _ in found], plan).float(), _as_tokens([its for _, its in found], plan).contiguous()
        for above in plan.above:
            where, keys = above.queries, above.keys
            more, its_total = _forward(query[:, :, where], key[:, :, keys], value[:, :, keys], scale, cap, False, above.mask)
            before = total[:, :, where]
            together = torch.logaddexp(before, its_total)
            out[:, :, where].mul_(torch.exp(before - together)[..., None]).add_(more * torch.exp(its_total - together)[..., None])
            total[:, :, where] = together
        if sinks is not None:
            together = torch.logaddexp(total, sinks.float()[:, None])
            out.mul_(torch.exp(total - together)[..., None])
            total = together
    return out.to(query.dtype), total


@torch.library.custom_op("steptool::tree_attention_backward", mutates_args=())
def _tree_attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None,
    layout: Tensor,
    out: Tensor,
    total: Tensor,
    scale: float,
    cap: float,
    size: int,
    chunked: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    plan = plan_of(tuple(layout.flatten().tolist()), size, chunked, query.device, query.dtype)
    inputs = (gradient, query, key, value, out, total)
    with torch.autocast(query.device.type, enabled=False):
        rows = [_backward_of_rows(inputs, part, scale, cap) for part in plan.own]
        results = [_as_tokens(its, plan).float() for its in zip(*rows, strict=True)]
        for above in plan.above:
            g, q, o, t = (x[:, :, above.queries] for x in (gradient, query, out, total))
            k, v = key[:, :, above.keys], value[:, :, above.keys]
            gradients = _backward(g, q, k, v, o, t, scale, cap, False, above.mask)
            for result, its, where in zip(results, gradients, (above.queries, above.keys, above.keys), strict=True):
                result[:, :, where] += its
        for_sinks = torch.zeros(0, device=query.device)
        if sinks is not None:  # a sink has no value: ∂s = -e^(s - l)·(∂o·o)
            delta = (gradient.float() * out.float()).sum(-1)
            for_sinks = -(torch.exp(sinks.float()[:, None] - total) * delta).sum((0, 2)).to(sinks.dtype)
    return *(result.to(query.dtype) for result in results), for_sinks  # type: ignore[return-value]


def _backward_of_rows(inputs: tuple[Tensor, ...], part: Own, scale: float, cap: float) -> tuple[Tensor, Tensor, Tensor]:
    g, q, k, v, o, t = (_as_rows(x, part) for x in inputs)
    if part.weight is not None:  # padding repeats a token, whose gradient must not count twice
        g = g * part.weight
    return _backward(g, q, k, v, o, t, scale, cap, part.mask is None, part.mask)


def _empty(query: Tensor) -> tuple[Tensor, Tensor]:
    n, heads, length, size = query.shape
    return query.new_empty(n, length, heads, size).transpose(1, 2), query.new_empty(n, heads, length, dtype=torch.float32)


@_tree_attention.register_fake
def _shapes(query: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _empty(query)


@_tree_attention_backward.register_fake
def _shapes_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, *others: Any) -> tuple[Tensor, ...]:
    return *(x.new_empty(x.shape) for x in (query, key, value)), query.new_empty(0) if sinks is None else sinks.new_empty(sinks.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5], *output)
    ctx.rule = inputs[5:]


def _gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # once: reading them may recompute a layer
    found = torch.ops.steptool.tree_attention_backward(gradient, *saved, *ctx.rule)
    return *found[:3], None if saved[3] is None else found[3], *[None] * 5


_tree_attention.register_autograd(_gradients, setup_context=_keep)
