"""What a search may choose for every row of a table: ranges of numbers and lists of values, with the trials that every row begins with.

All rows that follow a policy gradient choose from the same list, ``COMMON``, so that no optimizer is one method's privilege; beside it, each
has what is its own: λ where there is a critic, the size of groups where episodes are compared. Rewards are no choice: a row is named by its reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["ANY_SPACE", "COMMON", "PRESETS", "SPACES", "Range", "Space", "presets", "widened"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn evenly, or with ``log`` evenly in their logarithm."""

    low: float
    high: float
    log: bool = False
    least: float = 0.0
    """How far down it may be widened."""
    most: float = float("inf")
    """How far up it may be widened."""


Space = Mapping[str, "Range | tuple[Any, ...]"]
"""Setting -> what it may be. ``algo_options.beta`` is the entry ``"beta"`` of ``algo_options``."""

EDGE = 0.1
"""Share of a range at either end that counts as its edge."""
WIDER = 4.0
"""The factor by which a logarithmic range grows; another one grows by half its length."""

COMMON: Space = {
    "lr": Range(1e-4, 1.6e-3, log=True),
    "epochs": (1, 2, 4),
    "negative": Range(0.1, 1.0, most=1.0),
    "kl": (0.0, 0.003, 0.01, 0.03),
    "entropy": (0.0, 0.003, 0.01),
    "clip": (0.1, 0.2, 0.4),
    "imitate": ("none", "steps", "episodes"),
}
"""The optimizer's settings: learning rate, passes over a batch, weight of negative advantages, KL to the warm start, entropy bonus, clipping, and
what of the last updates' episodes is imitated again."""

PRESETS: tuple[dict[str, Any], ...] = (
    {"lr": 3e-4, "epochs": 2, "negative": 0.3, "kl": 0.0, "entropy": 0.0, "clip": 0.2, "imitate": "steps"},
    {"lr": 3e-4, "epochs": 2, "negative": 0.3, "kl": 0.0, "entropy": 0.0, "clip": 0.2, "imitate": "episodes"},
    {"lr": 8e-4, "epochs": 1, "negative": 1.0, "kl": 0.01, "entropy": 0.01, "clip": 0.2, "imitate": "none"},
)
"""The first trials of every row: what ``step-ppo`` does by default, what ``ppo-final`` does, and what the algorithms without a critic do."""

_UNIT = Range(0.0, 1.0, most=1.0)
_CRITIC: Space = {**COMMON, "lam": _UNIT}
_FINE: Space = {**COMMON, "lam": Range(0.9, 1.0, most=1.0)}  # λ acts once per token here
_GROUPS: Space = {**COMMON, "group": (4, 8, 16)}
_STATES: Space = {**_GROUPS, "gamma": Range(0.9, 1.0, most=1.0), "credit": ("gigpo", "gigpo-std")}
_KEPT: Space = {"lr": Range(1e-4, 1.6e-3, log=True), "epochs": (1, 2, 4), "group": (1, 4, 8)}
_PAIRS: Space = {
    "lr": Range(5e-5, 8e-4, log=True),
    "epochs": (1, 2, 4),
    "group": (4, 8, 16),
    "algo_options.beta": Range(0.03, 1.0, log=True),
    "algo_options.imitation": (0.0, 0.2, 1.0),
}

SPACES: dict[str, Space] = {
    "SFT": {"demo_lr": Range(5e-4, 8e-3, log=True), "demo_epochs": (1, 2, 4), "demo_batch": (8, 16, 32)},
    "RFT": {**_KEPT, "imitate": ("none", "episodes")},
    "RFT (step)": {**_KEPT, "imitate": ("none", "steps")},
    "PPO (final)": _CRITIC,
    "ETO": _PAIRS,
    "trajectory DPO": _PAIRS,
    "ArCHer lite": {**COMMON, "algo_options.critic_lr": Range(3e-4, 1e-2, log=True), "algo_options.critic_passes": (2, 5, 10)},
    "REINFORCE (final)": COMMON,
    "REINFORCE (step)": COMMON,
    "RLOO (final)": _GROUPS,
    "RLOO (step)": _GROUPS,
    "GRPO (final)": _GROUPS,
    "GRPO (step)": _GROUPS,
    "GiGPO (final)": _STATES,
    "GiGPO (step)": _STATES,
    "process GRPO": _GROUPS,
    "MT-GRPO": _GROUPS,
    "turn-PPO": _CRITIC,
    "StepTool": _CRITIC,
    "w/o step credit": COMMON,
    "w/o imitation": {name: choice for name, choice in _CRITIC.items() if name != "imitate"},
    "token credit": _FINE,
    "bilevel credit": _FINE,
    "SC only": _CRITIC,
    "Con only": _CRITIC,
    "reference credit": _FINE,
}
"""Row of the table -> what its search may choose."""

ANY_SPACE: Space = COMMON
"""For a row that ``SPACES`` does not name."""


def presets(space: Space, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials that the search of a row begins with.

    Args:
        space: What the row may choose.
        settings: Its settings otherwise; what they say of a choice that ``PRESETS`` do not make is in the first trials, too.

    Returns:
        Trials without choices that are left to the search, the same one not twice.
    """
    found: list[dict[str, Any]] = []
    for preset in PRESETS:
        chosen = {name: value for name, value in {**settings, **preset}.items() if name in space and _within(space[name], value)}
        if chosen and chosen not in found:
            found.append(chosen)
    return found


def widened(choice: Range, best: float) -> Range:
    """Return the range, with more room at the end where the best value lies, if it lies at one.

    Args:
        choice: The range.
        best: The best value so far.
    """
    low, high = choice.low, choice.high
    if choice.log:
        margin = (high / low) ** EDGE
        below, above = best <= low * margin, best >= high / margin
        low, high = (low / WIDER if below else low), (high * WIDER if above else high)
    else:
        margin = EDGE * (high - low)
        below, above = best <= low + margin, best >= high - margin
        more = (high - low) / 2
        low, high = (low - more if below else low), (high + more if above else high)
    return replace(choice, low=min(max(low, choice.least), choice.low), high=max(min(high, choice.most), choice.high))


def _within(choice: Range | tuple[Any, ...], value: Any) -> bool:
    return choice.low <= value <= choice.high if isinstance(choice, Range) else value in choice
