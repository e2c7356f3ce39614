"""Caches of the model's own classes, of several sequences together and apart: for ``general.General``.

What a sequence keeps is keys and values of the tokens within reach, states of recurrences and convolutions, or both, layer by layer.
Together, sequences of different lengths are aligned at their ends: keys are padded on the left, as in ``generate``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import (
    CacheLayerMixin,
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from ..models.language_model import Kept

__all__ = ["apart", "can_join", "duplicate", "has_keys", "together"]

_KNOWN = (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)


def can_join(kept: Kept) -> bool:
    """Return whether ``together`` knows all layers of such a cache."""
    return type(kept.cache) is DynamicCache and all(type(layer) in _KNOWN for layer in kept.cache.layers)


def has_keys(kept: Kept) -> bool:
    """Return whether a layer keeps keys, so that sequences of different lengths need padding."""
    return any(isinstance(layer, CacheLayerMixin) for layer in kept.cache.layers)


def duplicate(kept: Kept) -> Kept:
    """Return a copy that shares no memory."""
    return Kept(kept.name, copy.deepcopy(kept.cache))


def together(keeps: Sequence[Kept], lengths: Sequence[int]) -> Kept:
    """Return one cache of all sequences.

    Args:
        keeps: What n sequences keep.
        lengths: How many tokens each of them has.
    """
    cache = copy.copy(keeps[0].cache)
    cache.layers = [_join(layers, max(lengths)) for layers in zip(*(kept.cache.layers for kept in keeps), strict=True)]
    return Kept(keeps[0].name, cache)


def apart(kept: Kept, lengths: Sequence[int]) -> list[Kept]:
    """Return what each of the sequences of ``together`` keeps, with their present lengths in tokens."""
    separate = []
    for row, length in enumerate(lengths):
        cache = copy.copy(kept.cache)
        cache.layers = [_take(layer, row, length) for layer in kept.cache.layers]
        separate.append(Kept(kept.name, cache))
    return separate


def _join(layers: Sequence[Any], longest: int) -> Any:
    layer = copy.copy(layers[0])
    if isinstance(layer, CacheLayerMixin) and layer.is_initialized:
        width = max(one.keys.shape[-2] for one in layers)
        for name in ("keys", "values"):
            tensors = [getattr(one, name) for one in layers]
            setattr(layer, name, torch.cat([F.pad(tensor, (0, 0, width - tensor.shape[-2], 0)) for tensor in tensors]))
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = longest
    _states(layer, lambda name, index: torch.cat([getattr(one, name)[index] for one in layers]))
    return layer


def _take(layer: Any, row: int, length: int) -> Any:
    taken = copy.copy(layer)
    if isinstance(layer, CacheLayerMixin) and layer.is_initialized:
        width = min(length, layer.sliding_window - 1) if isinstance(layer, DynamicSlidingWindowLayer) else length
        for name in ("keys", "values"):
            tensor = getattr(layer, name)
            setattr(taken, name, tensor[row : row + 1, :, tensor.shape[-2] - width :].clone())
        if isinstance(taken, DynamicSlidingWindowLayer):
            taken.cumulative_length = length
    _states(taken, lambda name, index: getattr(layer, name)[index][row : row + 1].clone())
    return taken


def _states(layer: Any, state: Callable[[str, int], Tensor]) -> None:
    """Replace the states of a recurrent layer; nothing that belongs to another layer is changed."""
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        for name in ("conv_states", "recurrent_states"):
            old = getattr(layer, name)
            setattr(layer, name, {index: None if tensor is None else state(name, index) for index, tensor in old.items()})
        layer.has_previous_state = dict(layer.has_previous_state)
