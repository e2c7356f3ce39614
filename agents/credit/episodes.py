"""``Episodes``: a batch of episodes as padded arrays, the input of credit assignment. It holds no tokens and no model.

B episodes, at most T steps, at most K action tokens per step. Padding is at the end of every row; its content affects no
result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steptool_env.errors import InvalidArgument

__all__ = ["Bools", "Episodes", "Floats", "Integers", "discounted_sum", "over_tokens"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Episodes:
    """A batch of episodes; make it with ``Episodes.of``."""

    rewards: Floats
    """(B, T) r_t; 0 in the padding."""
    live: Bools
    """(B, T) True at steps, False in the padding."""
    values: Floats
    """(B, T) V_t, the value of the state in which step t was chosen."""
    bootstrap: Floats
    """(B,) V_T, the value of the state after the last step: 0 where the episode has ended."""
    tokens: Integers
    """(B, T) action tokens of each step, 0 in the padding."""
    gaps: Integers
    """(B, T) observation tokens just before the action of each step; only ``reference`` uses them."""
    groups: Integers
    """(B,) equal for episodes of the same task, which may be compared."""
    states: Integers
    """(B, T) equal for steps that were chosen in the same state; only compared within a group."""
    valid: Bools
    """(B,) False for an episode that an infrastructure fault cut off: its return is unknown."""
    answered: Bools
    """(B,) False for an episode without an answer, whose last step is a call like any other: its budget was used up. Only ``mt-grpo`` uses it."""

    @classmethod
    def of(
        cls,
        rewards: Sequence[ArrayLike],
        *,
        values: Sequence[ArrayLike] | None = None,
        bootstrap: ArrayLike | None = None,
        tokens: Sequence[ArrayLike] | None = None,
        gaps: Sequence[ArrayLike] | None = None,
        groups: ArrayLike | None = None,
        states: Sequence[ArrayLike] | None = None,
        valid: ArrayLike | None = None,
        answered: ArrayLike | None = None,
    ) -> Episodes:
        """Pad episodes of different lengths into one batch.

        Args:
            rewards: Per episode (T_b,), at least one step each.
            values: The same shape; 0 if not given.
            bootstrap: (B,); 0 if not given.
            tokens: Per episode (T_b,); 1 per step if not given.
            gaps: Per episode (T_b,); 0 if not given.
            groups: (B,) integers; all episodes are of one task if not given.
            states: Per episode (T_b,) integers; the number of the step if not given.
            valid: (B,); True if not given.
            answered: (B,); True if not given.

        Raises:
            InvalidArgument: The shapes do not match, a value is not finite, or a count is negative.
        """
        lengths = [len(np.atleast_1d(np.asarray(row))) for row in rewards]
        if not lengths or not min(lengths):
            raise InvalidArgument(f"expected one or more episodes of at least one step, got lengths {lengths}")
        count, longest = len(lengths), max(lengths)
        live = np.arange(longest) < np.array(lengths)[:, None]

        def padded(name: str, rows: Sequence[ArrayLike] | None, default: float, kind: Any) -> NDArray[Any]:
            result = np.zeros((count, longest), dtype=kind)
            if rows is None:
                result[live] = default
                return result
            flat = [np.asarray(row, dtype=kind) for row in rows]
            if [row.shape for row in flat] != [(length,) for length in lengths]:
                raise InvalidArgument(f"{name} must have the shapes {[(length,) for length in lengths]}, got {[row.shape for row in flat]}")
            result[live] = np.concatenate(flat)
            if not np.isfinite(result).all():
                raise InvalidArgument(f"{name} must be finite, got {result[~np.isfinite(result)][0]}")
            return result

        def per_episode(name: str, row: ArrayLike | None, default: NDArray[Any]) -> NDArray[Any]:
            result = default if row is None else np.asarray(row, dtype=default.dtype)
            if result.shape != (count,) or not np.isfinite(result).all():
                raise InvalidArgument(f"{name} must be {count} finite numbers, one per episode, got {row!r}")
            return result

        episodes = cls(
            rewards=padded("rewards", rewards, 0.0, np.float64),
            live=live,
            values=padded("values", values, 0.0, np.float64),
            bootstrap=per_episode("bootstrap", bootstrap, np.zeros(count)),
            tokens=padded("tokens", tokens, 1, np.int64),
            gaps=padded("gaps", gaps, 0, np.int64),
            groups=per_episode("groups", groups, np.zeros(count, dtype=np.int64)),
            states=padded("states", states, 0, np.int64) if states is not None else np.where(live, np.arange(longest), 0),
            valid=per_episode("valid", valid, np.ones(count, dtype=np.bool_)),
            answered=per_episode("answered", answered, np.ones(count, dtype=np.bool_)),
        )
        for name in ("tokens", "gaps"):
            if (getattr(episodes, name) < 0).any():
                raise InvalidArgument(f"{name} must not be negative, got {getattr(episodes, name).min()}")
        return episodes

    @property
    def lengths(self) -> Integers:
        """(B,) steps of each episode."""
        return np.asarray(self.live.sum(axis=1))

    @property
    def next_values(self) -> Floats:
        """(B, T) V_{t+1}: the next step's value, and after the last step ``bootstrap``; 0 in the padding."""
        shifted = np.zeros_like(self.values)
        shifted[:, :-1] = self.values[:, 1:]
        shifted[np.arange(len(self.live)), self.lengths - 1] = self.bootstrap
        return np.where(self.live, shifted, 0.0)

    @property
    def token_mask(self) -> Bools:
        """(B, T, K) True where a step has an action token; K is the largest number of tokens of a step, at least 1."""
        longest = max(1, int(self.tokens.max()))
        return np.asarray(np.arange(longest) < self.tokens[:, :, None])


def discounted_sum(x: Floats, rate: float) -> Floats:
    """(B, T) y_t = x_t + rate·y_{t+1}, with y_T = 0; the padding of ``x`` must hold 0."""
    y = np.empty_like(x)
    carried = np.zeros(len(x))
    for t in range(x.shape[1] - 1, -1, -1):
        y[:, t] = carried = x[:, t] + rate * carried
    return y


def over_tokens(episodes: Episodes, per_step: Floats, rate: float) -> Floats:
    """Spread (B, T) over the action tokens (B, T, K): the last token of a step gets its full value, each earlier one ``rate`` times the next."""
    distance = np.maximum(episodes.tokens[:, :, None] - 1 - np.arange(episodes.token_mask.shape[2]), 0)
    return np.asarray(np.where(episodes.token_mask, per_step[:, :, None] * rate**distance, 0.0))
