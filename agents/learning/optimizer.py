"""The optimizer of a policy: its groups of parameters have names, and each name its share of the learning rate."""

from __future__ import annotations

from typing import Any

import torch

from ..models.language_model import LanguageModel

__all__ = ["HEAD_RATE", "policy_optimizer", "set_learning_rate"]

HEAD_RATE = 10.0
"""How many times faster than the policy the value head learns."""

_SHARES = {"policy": 1.0, "value_head": HEAD_RATE}
"""Name of a group -> its share of the learning rate; groups of other names keep the rate that they were given."""


def policy_optimizer(lm: LanguageModel, lr: float) -> torch.optim.AdamW:
    """Return an optimizer with the groups ``"policy"`` and ``"value_head"``.

    The value head reads detached features and may learn faster. An algorithm that has no critic leaves it without gradients.

    Args:
        lm: Whose trainable parameters are meant.
        lr: Of the policy.
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
        optimizer: Groups of other names keep their rate.
        rate: Per optimizer step.
    """
    for group in optimizer.param_groups:
        if (share := _SHARES.get(group.get("name", ""))) is not None:
            group["lr"] = share * rate
