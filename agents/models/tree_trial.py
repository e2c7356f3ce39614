"""Whether a model reads trees, found out by letting it read one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .tree import Tree, packed

__all__ = ["says_the_same_in_a_tree"]


def says_the_same_in_a_tree(read: Callable[[Tensor, Tree | None], Tensor], sample: Tensor, close: Callable[[Tensor, Tensor], bool]) -> bool:
    """Return whether each state depends on the tokens before it on its path, and on nothing else.

    Args:
        read: From token ids (B, L) and the tree that they are in to hidden states (B, L, H).
        sample: (1, 16) some token ids.
        close: Whether two tensors are the same, up to rounding.
    """
    rows = sample.repeat(3, 1)
    rows[1, 9:], rows[2, 1:] = rows[0, 9:].flip(0), rows[0, 1:].flip(0)
    ids, paths, tree = packed(list(rows.cpu().numpy()), [0, 9, 1])
    try:
        states = read(torch.from_numpy(ids)[None].to(sample.device), tree.to(sample.device))[0]
        return close(torch.stack([states[torch.from_numpy(path).to(sample.device)] for path in paths]), read(rows, None))
    except Exception:  # whatever an architecture's code does with positions that start again
        return False
