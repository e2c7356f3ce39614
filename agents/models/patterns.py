"""``Pattern``: which earlier tokens a layer's queries may attend to, as ``transformers`` says it.

A model asks ``transformers`` for a mask per kind of layer. Under the name of this package's attention it gets no tensor but the rule
itself: None for all earlier tokens, a ``Pattern`` for a sliding window or for chunks. So the attention follows what the model's
own code asks for, whatever its configuration calls it, and builds a mask only where a window binds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from steptool_env.errors import NotSupported

from .tree import Tree, tree_of_this_pass

__all__ = ["ATTENTION", "Branches", "Pattern", "allowed"]

ATTENTION = "steptool"
"""The name under which ``transformers`` knows the attention of this package, and its masks."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A limit on how far back a query attends; itself and the limit included."""

    size: int
    chunked: bool = False
    """False: to the last ``size`` tokens, itself included. True: to the tokens of its own chunk; chunks have ``size`` tokens."""

    def first(self, positions: Tensor) -> Tensor:
        """Return the first position that a query at each of these positions attends to; below 0 where nothing is out of reach."""
        return positions // self.size * self.size if self.chunked else positions - (self.size - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """The tokens of a pass are those of a tree. A mask, and not a variable of the pass: layers that are computed again in the backward pass get it, too."""

    tree: Tree
    pattern: Pattern | None


@functools.lru_cache(maxsize=4)
def allowed(pattern: Pattern | None, length: int, device: torch.device) -> Tensor:
    """Return the mask (length, length) of a whole row, True where a query may attend to a key."""
    with torch.inference_mode(False):  # the first call may be a rollout's, and inference tensors cannot be used in a backward pass
        positions = torch.arange(length, device=device)
        mask = positions <= positions[:, None]
        return mask if pattern is None else mask & (positions >= pattern.first(positions)[:, None])


def _pattern(
    *,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    config: Any = None,
    **kwargs: Any,
) -> Pattern | Branches | None:
    """Return the rule behind a mask; the signature is that of the mask functions of ``transformers``.

    Raises:
        NotSupported: It is neither causal, nor a sliding window, nor chunks; or the model wants the mask itself, to change it.
    """
    tree = tree_of_this_pass()
    if tree is not None and attention_mask is None and not use_vmap:
        # Seeing positions that start again, transformers wraps its function, which then cannot be asked. Chunks have this name there.
        chunked = local_size is not None and getattr(config, "attention_chunk_size", None) == local_size
        return Branches(tree, None if local_size is None else Pattern(local_size, chunked))
    # A mask that must not be skipped is going to be combined with another one, and one that needs vmap is already.
    if attention_mask is not None or use_vmap or not allow_is_causal_skip or (local_size is None and mask_function is not causal_mask_function):
        raise NotSupported("it attends by a mask of its own, neither causal nor a sliding window")
    if local_size is None:
        return None
    # From the last token of a window on, a window holds the second token and a chunk does not: it starts there.
    zero, one, size = torch.tensor(0), torch.tensor(1), torch.tensor(local_size)
    return Pattern(local_size, chunked=not bool(mask_function(zero, zero, size, one)) and local_size > 1)


AttentionMaskInterface.register(ATTENTION, _pattern)
