"""Settings for models and suites that the defaults do not suit."""

from __future__ import annotations

from typing import Any

__all__ = ["CHAINS", "PRETRAINED_CHAINS", "preset"]

CHAINS: dict[str, Any] = {
    "level": 2,
    "depth": [2, 4],
    "replies": "field",
    "families": ["lookup", "change"],
    "domains": ["shop", "travel", "clinic"],
}
"""The tasks of ``worlds`` that ``tiny`` can read: single fields, and the words that it was pretrained on."""

PRETRAINED_CHAINS: dict[str, Any] = {"level": 2, "families": ["lookup", "change"]}
"""The tasks of ``worlds`` that a small pretrained model learns from a few hundred demonstrations: whole records, all domains, one to four calls."""

_PRETRAINED: dict[str, Any] = {
    "lora_rank": 8,
    "token_budget": 4096,
    "demos": 8,
    "demo_mistakes": 0.0,
    "demo_batch": 4,
    "demo_lr": 2e-4,
    "episodes": 4,
    "max_new_tokens": 48,
    "epochs": 1,
    "minibatches": 1,
    "lr": 1e-4,
    "kl": 0.01,
    "entropy": 0.0,
    "updates": 20,
    "eval_episodes": 4,
    "eval_width": 4,
}
"""A pretrained model needs a few demonstrations of the call format, not a million tokens; adapters keep memory small."""


def preset(model: str, suite: str, level: int | None = None, group: int = 1) -> dict[str, Any]:
    """Return the settings, by name, that differ from the defaults for this model and suite.

    Args:
        model: The model's name.
        suite: The suite's name.
        level: Level of the tasks, if the user has chosen one; a level other than the preset's has its own depths.
        group: Episodes per task that the algorithm needs; limited to the number of episodes that a pretrained model plays.
    """
    pretrained = model != "tiny"
    settings: dict[str, Any] = dict(_PRETRAINED) if pretrained else {}
    if pretrained:
        settings["group"] = min(settings["episodes"], group)
    if suite == "worlds":
        options = dict(PRETRAINED_CHAINS if pretrained else CHAINS)
        if level not in (None, options["level"]):
            options.pop("depth", None)
            options["level"] = level
        settings["suite_options"] = options
        if pretrained:
            # The longest call of a solution on levels 1 and 2 has 54 tokens with the tokenizer of ``smollm2``.
            settings |= {"demo_options": {"depth": [1, 2]}, "max_new_tokens": 64}
    else:
        settings |= {"suite_options": {}, "demo_options": {}}
        if not pretrained:
            settings["demo_epochs"] = 4  # ``tiny`` has never seen the words of other tasks than those of ``worlds``
    if suite == "bfcl":
        settings["max_steps"] = 10
    return settings
