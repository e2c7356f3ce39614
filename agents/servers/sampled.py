"""Reading the tokens that a model server says it has sampled: what cannot have been sampled is no answer.

Training takes a server's token ids and log-probabilities at their word: one of them that is NaN, or an id that the model does not
have, would spoil the weights or end the run. So they are checked here, where they come in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .client import Failure

__all__ = ["NO_TOKEN_IDS", "sampled", "sampled_tokens"]

NO_TOKEN_IDS = "no token ids"
"""Kind of the failure that an answer has no token ids at all."""
_ROUNDING = 1e-5
"""By how much a log-probability may be positive, which counts as 0: servers subtract two numbers of single precision."""
_LEAST = -1000.0
"""No token with a lower log-probability is ever sampled; servers write -9999 for minus infinity."""


def sampled(content: Any, max_tokens: int, vocabulary: int) -> tuple[list[int], list[float]]:
    """Return the sampled token ids and their log-probabilities from a completion (``/v1/completions``).

    Args:
        content: The answer, from JSON.
        max_tokens: How many tokens were asked for at most.
        vocabulary: Number of tokens that the model has.

    Raises:
        Failure: The answer holds no token ids at all, so asking again is of no use.
        ValueError, LookupError, TypeError: The answer is no completion, or what it holds cannot have been sampled.
    """
    choice = content["choices"][0]
    if not isinstance(choice, Mapping):
        raise ValueError(f"a choice must be an object, got {choice!r:.80}")
    if choice.get("token_ids") is None:
        raise Failure(NO_TOKEN_IDS, "the server sends no token ids (return_token_ids): nothing can be learned from its answers", final=True)
    ids, logprobs = sampled_tokens(choice["token_ids"], (choice.get("logprobs") or {})["token_logprobs"], max_tokens, vocabulary)
    if not ids:
        raise ValueError("expected at least one token, got none")
    return ids, logprobs


def sampled_tokens(ids: Any, logprobs: Any, max_tokens: int, vocabulary: int | None = None) -> tuple[list[int], list[float]]:
    """Check token ids and log-probabilities, and return them; a log-probability that rounding made positive becomes 0.

    Raises:
        ValueError: They are not two lists of the same length, at most ``max_tokens``; an id is no integer from 0 to below
            ``vocabulary``; a log-probability is no number, not finite, positive, or that of a token which is never sampled.
    """
    if not (isinstance(ids, Sequence) and isinstance(logprobs, Sequence) and len(ids) == len(logprobs)):
        raise ValueError(f"expected as many log-probabilities as token ids, got {ids!r:.80} and {logprobs!r:.80}")
    if len(ids) > max_tokens:
        raise ValueError(f"expected at most {max_tokens} tokens, as asked for, got {len(ids)}")
    for token in ids:
        if type(token) is not int or token < 0 or (vocabulary is not None and token >= vocabulary):
            raise ValueError(f"expected token ids from 0 to {'' if vocabulary is None else vocabulary - 1}, got {_short(token)}")
    for logprob in logprobs:
        if type(logprob) not in (int, float) or not _LEAST <= logprob <= _ROUNDING or not math.isfinite(logprob):
            raise ValueError(f"expected log-probabilities of sampled tokens, from {_LEAST:g} to 0, got {_short(logprob)}")
    return list(ids), [min(float(logprob), 0.0) for logprob in logprobs]


def _short(value: Any) -> str:
    return f"{value!r:.40}" if not isinstance(value, int) or abs(value) < 10**40 else "a number of more than 40 digits"
