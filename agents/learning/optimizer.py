"""The optimizer of a policy: its parameter groups are named, and each name has its own multiple of the learning rate."""

from __future__ import annotations

from typing import Any

import torch

from ..models.language_model import LanguageModel

__all__ = ["HEAD_RATE", "policy_optimizer", "set_learning_rate"]

HEAD_RATE = 10.0
"""Learning rate of the value head, as a multiple of the policy's."""

_MULTIPLIERS = {"policy": 1.0, "value_head": HEAD_RATE}
"""Name of a parameter group -> multiple of the learning rate; groups with other names keep their own rate."""


def policy_optimizer(lm: LanguageModel, lr: float) -> torch.optim.AdamW:
    """Return an optimizer with the groups ``"policy"`` and ``"value_head"``.

    The value head reads detached features and may learn faster. In an algorithm without a critic it gets no gradients.

    Args:
        lm: The model; the optimizer updates its trainable parameters.
        lr: Learning rate of the policy.
    """
    head = {id(parameter) for parameter in lm.value_head.parameters()}
    policy = [parameter for parameter in lm.trainable().values() if id(parameter) not in head]
    groups: list[dict[str, Any]] = [
        {"params": policy, "name": "policy"},
        {"params": list(lm.value_head.parameters()), "name": "value_head", "lr": HEAD_RATE * lr},
    ]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the policy's learning rate, and that of the value head, ``HEAD_RATE`` times as high.

    Args:
        optimizer: From ``policy_optimizer``; groups with other names keep their rate.
        rate: Learning rate of the policy.
    """
    for group in optimizer.param_groups:
        if (multiplier := _MULTIPLIERS.get(group.get("name", ""))) is not None:
            group["lr"] = multiplier * rate
