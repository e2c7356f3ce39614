"""Of which parts attention in a ``Tree`` consists: those within nodes, and those between a node and what is below it.

Nodes of similar length are rows of one part, so that a tree of many small nodes takes few calls. Where a limit on how far back tokens
attend binds, a part has a mask, and what is out of reach is left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .patterns import Pattern
from .tree import Node

__all__ = ["NEVER", "Above", "Own", "Plan", "plan_of"]

ALIKE = 1.5
"""Nodes are attended to in one call if the longest has at most so many times the tokens of the shortest."""
FEW = 32
"""So are all nodes of up to so many tokens: there, calls cost more than padding."""
NEVER = -1e30
"""A score that is masked: finite, so that a query that may attend to nothing of a part gives that part a weight of 0, and not NaN."""


@dataclass(frozen=True, slots=True)
class Own:
    """Nodes whose tokens attend to each other, as rows of up to L tokens."""

    rows: int
    take: slice | Tensor
    """Where the rows' tokens are, (rows·L,); a slice if there is one row."""
    real: Tensor | None
    """Which of the rows' places hold a token and not padding; None: all."""
    weight: Tensor | None
    """(rows, 1, L, 1) 1 for these, 0 for padding; None: there is none."""
    mask: Tensor | None
    """(L, L) 0 or a score that is never chosen; None: causal."""


@dataclass(frozen=True, slots=True)
class Above:
    """Tokens that attend to a node above them."""

    queries: slice
    keys: slice
    mask: Tensor | None
    """(Q, P); None: all attend to all."""


@dataclass(slots=True)
class Plan:
    own: list[Own] = field(default_factory=list)
    above: list[Above] = field(default_factory=list)
    places: Tensor | None = None
    """(T,) where each token is in ``own``, its parts one after the other without their padding; None: they are in the order of the tree."""


@functools.lru_cache(maxsize=8)
def plan_of(numbers: tuple[int, ...], size: int, chunked: bool, device: torch.device, dtype: torch.dtype) -> Plan:
    nodes = [Node(*numbers[first : first + 4]) for first in range(0, len(numbers), 4)]
    pattern = Pattern(size, chunked) if size else None
    plan = Plan()
    whole = []
    order = []
    with torch.inference_mode(False):  # kept for passes with a gradient
        positions = torch.cat([torch.arange(node.depth, node.depth + node.end - node.start) for node in nodes])
        for node in nodes:
            inside, below = slice(node.start, node.end), slice(node.end, node.last)
            mask = _mask(positions[inside], positions[inside], pattern)
            if mask is None:
                whole.append(node)
            else:
                causal = positions[inside, None] < positions[inside]
                plan.own.append(Own(1, inside, None, None, mask.masked_fill_(causal, NEVER).to(device, dtype)))
                order.append(torch.arange(node.start, node.end))
            if node.last > node.end:
                reached, some = _reached(positions[inside], positions[below], inside, below, pattern)
                if some is not None:
                    mask = _mask(positions[some], positions[reached], pattern)
                    plan.above.append(Above(some, reached, None if mask is None else mask.to(device, dtype)))
        for group in _alike(whole):
            part, tokens = _rows(group, device, dtype)
            plan.own.append(part)
            order.append(tokens)
        places = torch.argsort(torch.cat(order))
        plan.places = None if torch.equal(places, torch.arange(len(places))) else places.to(device)
    return plan


def _mask(queries: Tensor, keys: Tensor, pattern: Pattern | None) -> Tensor | None:
    """Return the mask (Q, P) of a limit for tokens at these positions; None where it does not bind."""
    if pattern is None or not len(queries):
        return None
    hidden = keys < pattern.first(queries)[:, None]
    return torch.zeros(hidden.shape).masked_fill_(hidden, NEVER) if bool(hidden.any()) else None


def _reached(keys: Tensor, queries: Tensor, node: slice, below: slice, pattern: Pattern | None) -> tuple[slice, slice | None]:
    """Return the keys of a node that anything below it reaches, and the queries between the first and the last that reach any."""
    if pattern is None:
        return node, below
    first = pattern.first(queries)
    some = (first <= keys[-1]).nonzero()
    if not len(some):
        return node, None
    out_of_reach = int((keys < first.min()).sum())
    return slice(node.start + out_of_reach, node.stop), slice(below.start + int(some[0]), below.start + int(some[-1]) + 1)


def _alike(nodes: list[Node]) -> list[list[Node]]:
    """Return groups of nodes of similar length."""
    groups: list[list[Node]] = []
    for node in sorted(nodes, key=lambda node: node.end - node.start):
        shortest = groups[-1][0].end - groups[-1][0].start if groups else 0
        if groups and node.end - node.start <= max(ALIKE * shortest, FEW):
            groups[-1].append(node)
        else:
            groups.append([node])
    return groups


def _rows(nodes: list[Node], device: torch.device, dtype: torch.dtype) -> tuple[Own, Tensor]:
    """Return nodes as one part, and where its tokens are in the tree."""
    if len(nodes) == 1:
        inside = slice(nodes[0].start, nodes[0].end)
        return Own(1, inside, None, None, None), torch.arange(nodes[0].start, nodes[0].end)
    longest = max(node.end - node.start for node in nodes)
    places = torch.arange(longest)
    ends = torch.tensor([node.end for node in nodes])[:, None]
    take = torch.tensor([node.start for node in nodes])[:, None] + places
    inside_row = take < ends
    tokens = take[inside_row]
    take = take.minimum(ends - 1).flatten().to(device)  # padding: causal attention never reaches it
    if bool(inside_row.all()):
        return Own(len(nodes), take, None, None, None), tokens
    real = inside_row.flatten().nonzero()[:, 0].to(device)
    return Own(len(nodes), take, real, inside_row[:, None, :, None].to(device, dtype), None), tokens
