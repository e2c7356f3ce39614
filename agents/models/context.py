"""``context_of``: how many tokens a model takes."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

__all__ = ["UNLIMITED", "context_of"]

UNLIMITED = 2**20
"""In tokens, of models whose configuration and tokenizer name no limit: those without positions, such as state spaces."""

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "context_length")


def context_of(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the longest sequence that a model takes, in tokens.

    Rotary embeddings of the kind ``longrope`` change for *all* tokens as soon as a text is longer than what they were made for: what
    was sampled before that would have other log-probabilities in training. So such a model ends where its short form ends.

    Args:
        config: Of the model.
        tokenizer: Its tokenizer: its limit counts where the configuration names none.
    """
    text = config.get_text_config()
    limits = [int(value) for name in _NAMES if isinstance(value := getattr(text, name, None), int) and value > 0]
    limit = limits[0] if limits else min(tokenizer.model_max_length, UNLIMITED)
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *rope.values()] if isinstance(rope, dict) else []
    for kind in kinds:
        if isinstance(kind, dict) and kind.get("rope_type") == "longrope":
            short = kind.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
            if isinstance(short, int):
                limit = min(limit, short)
    return limit
