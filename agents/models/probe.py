"""Token ids that a model is tried with, before it is used in another way than transformers does."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["probe_ids"]


def probe_ids(count: int, vocabulary: int, device: torch.device) -> Tensor:
    """Return token ids (count,), spread over a vocabulary without its first and last tenth.

    These hold the control tokens and places that are kept free. Many were never trained, and what a model says of them is unstable: one
    rounding more in SmolLM2-135M moves the states of its first tokens by half of their norm, those of ordinary ones by a hundredth.

    Args:
        count: How many; where the vocabulary is small, some come twice.
        vocabulary: Its size, in tokens.
        device: Where they are to be.
    """
    return torch.linspace(0.1 * vocabulary, 0.9 * vocabulary, count, dtype=torch.float64).long().clamp(0, vocabulary - 1).to(device)
