"""How a model's logits follow from the projection of its last hidden states: by a factor, and by a cap."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["scale_and_cap"]


def scale_and_cap(expected: Tensor, projected: Tensor, caps: Iterable[float], close: Callable[[Tensor, Tensor], bool]) -> tuple[float, float] | None:
    """Return the factor f and the cap c with which ``expected`` is c·tanh(f·projected/c), or f·projected for c = 0; None if there are none.

    Measured, not read: architectures have a dozen names for the factor, and some put it before the projection.

    Args:
        expected: The model's logits, float64.
        projected: The projection of its hidden states, of the same shape.
        caps: To be tried in this order, and 0 behind them.
        close: Whether two tensors are the same, up to rounding.
    """
    for cap in (*caps, 0.0):
        clear = expected.abs() < 0.9 * cap if cap else torch.ones_like(expected, dtype=torch.bool)  # at the cap, rounding hides the rest
        linear, some = (cap * torch.atanh(expected[clear] / cap) if cap else expected[clear]), projected[clear]
        factor = float((linear * some).sum() / some.square().sum()) if len(some) else 1.0
        if close(cap * torch.tanh(factor * projected / cap) if cap else factor * projected, expected):
            return (1.0 if abs(factor - 1.0) < 1e-5 else factor), cap
    return None
