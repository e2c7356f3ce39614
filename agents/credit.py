"""Credit assignment: from the rewards of an episode to the advantage of every step or the return of every token.

Pure functions of arrays (float64 in, float64 out): no model, no configuration, no side effects. One episode at a time.

Time indices. ``t`` counts *steps* (tool calls), 0 ≤ t < T; ``i`` counts *tokens*, 0 ≤ i < L. A step is one action of
the decision process, so γ and λ act once per step, however many tokens its call has and however long the tool's answer
is. Observation tokens are no actions: they carry no reward, no value and no discount. Inserting, deleting or lengthening
them changes no result of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steptool_env.errors import InvalidArgument

__all__ = ["CREDIT", "normalize", "rewards_to_go", "step_gae", "step_returns"]

Floats: TypeAlias = NDArray[np.float64]


def step_gae(rewards: ArrayLike, values: ArrayLike, bootstrap_value: float, gamma: float, lam: float) -> Floats:
    """Generalized advantage estimation over steps.

    With V_T = ``bootstrap_value``:

        δ_t = r_t + γ·V_{t+1} - V_t
        A_t = δ_t + γ·λ·A_{t+1},  A_T = 0        so  A_t = Σ_{k≥t} (γλ)^{k-t} δ_k

    Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation"
    (arXiv 1506.02438), equation 16, with the step (one tool call) as the unit of time. The last step's reward enters
    δ_{T-1} with weight 1 and every earlier A_t with weight (γλ)^{T-1-t}.

    Args:
        rewards: (T,) r_t, the reward of step t.
        values: (T,) V_t, the value of the state in which step t was chosen.
        bootstrap_value: V_T, the value of the state after the last step: 0.0 if the episode terminated, the critic's
            estimate if it was truncated.
        gamma: Discount γ in [0, 1], once per step.
        lam: λ in [0, 1], once per step; 0 gives the one-step error δ_t, 1 the return minus V_t.

    Returns:
        (T,) advantages A_t. The regression target of the critic is A_t + V_t.

    Raises:
        InvalidArgument: The shapes differ or are not (T,), a value is not finite, or γ or λ is outside [0, 1].
    """
    r_t = _vector("rewards", rewards)  # (T,)
    v_t = _vector("values", values, like=r_t, other="rewards")  # (T,)
    last = _number("bootstrap_value", bootstrap_value)
    _unit("gamma", gamma)
    _unit("lam", lam)
    v_tp1 = np.append(v_t[1:], last)[: len(v_t)]  # (T,)
    return _discounted_sum(r_t + gamma * v_tp1 - v_t, gamma * lam, 0.0)


def step_returns(rewards: ArrayLike, gamma: float, bootstrap_value: float = 0.0) -> Floats:
    """Discounted return of every step.

        G_t = r_t + γ·G_{t+1},  G_T = ``bootstrap_value``

    Source: Sutton and Barto, "Reinforcement Learning" (2nd edition), equation 3.9.

    Args:
        rewards: (T,) r_t, the reward of step t.
        gamma: Discount γ in [0, 1], once per step.
        bootstrap_value: G_T, 0.0 unless the episode was truncated.

    Returns:
        (T,) returns G_t.

    Raises:
        InvalidArgument: ``rewards`` is not (T,), a value is not finite, or γ is outside [0, 1].
    """
    r_t = _vector("rewards", rewards)
    last = _number("bootstrap_value", bootstrap_value)
    _unit("gamma", gamma)
    return _discounted_sum(r_t, gamma, last)


def rewards_to_go(rewards: ArrayLike, action_mask: ArrayLike, gamma: float) -> Floats:
    """Discounted return of every action token, as if the observation tokens were not there.

    Let n(i) be the first action token after token i. For an action token i

        G_i = r_i + γ·G_{n(i)}                   (G_i = r_i at the last action token)

    so γ acts once from each action token to the next one, also where a thousand observation tokens lie between the two.
    An observation token i has no return of its own: G_i = 0, it is not an action and must not be weighted by one.
    Compacting the sequence to its action tokens, discounting, and scattering back gives exactly this.

    This is the *token* as the unit of time; ``step_returns`` discounts per step. With γ = 1 the two agree on every token.
    Source: StepTool (arXiv 2410.07745), the return in the policy gradient over the action tokens.

    Args:
        rewards: (L,) r_i. The reward of a step belongs on the last token of its action; observation tokens hold 0.
        action_mask: (L,) True (or 1) at action tokens, False (or 0) at prompt, observation and padding tokens.
        gamma: Discount γ in [0, 1], once per action token.

    Returns:
        (L,) returns G_i; 0 where ``action_mask`` is False.

    Raises:
        InvalidArgument: The shapes differ or are not (L,), a value is not finite, the mask holds anything but 0 and 1,
            an observation token carries a reward, or γ is outside [0, 1].
    """
    r_i = _vector("rewards", rewards)  # (L,)
    mask = _mask("action_mask", action_mask, r_i, "rewards")  # (L,)
    _unit("gamma", gamma)
    stray = np.flatnonzero(~mask & (r_i != 0))
    if stray.size:
        i = int(stray[0])
        raise InvalidArgument(f"rewards[{i}] is {r_i[i]}, but token {i} is an observation; put the reward on the last token of the action")
    returns = np.zeros_like(r_i)
    returns[mask] = _discounted_sum(r_i[mask], gamma, 0.0)
    return returns


def normalize(advantages: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Shift and scale to mean 0 and standard deviation 1 over the whole batch.

        x_i ← (x_i - mean(x)) / std(x)           with the population std, over the entries where ``mask`` is True

    A constant input gives zeros: there is nothing to tell its entries apart by, and dividing by the rounding error of a
    standard deviation would turn noise into advantages. "Constant" means std(x) ≤ 1e-8·max(1, max|x|).

    Args:
        advantages: Any shape; over steps, so that long calls do not outweigh short ones.
        mask: The same shape; True (or 1) where an entry counts. None: all count.

    Returns:
        The same shape; 0 where ``mask`` is False.

    Raises:
        InvalidArgument: The shapes differ, a value that counts is not finite, or the mask holds anything but 0 and 1.
    """
    x = _floats("advantages", advantages)
    counted = np.ones(x.shape, dtype=bool) if mask is None else _mask("mask", mask, x, "advantages")
    kept = _finite("advantages", x[counted])
    result = np.zeros_like(x)
    if kept.size:
        centred = kept - kept.mean()
        std = float(np.sqrt(np.mean(centred**2)))
        if std > 1e-8 * max(1.0, float(np.abs(kept).max())):
            result[counted] = centred / std
    return result


CREDIT: dict[str, Callable[..., Floats]] = {"step": step_gae}
"""Name -> credit scheme; add an entry to add a scheme."""


def _discounted_sum(x: Floats, rate: float, last: float) -> Floats:
    """(T,) y_t = x_t + rate·y_{t+1} with y_T = last."""
    y = np.empty_like(x)
    for t in range(len(x) - 1, -1, -1):
        y[t] = last = x[t] + rate * last
    return y


def _floats(name: str, value: ArrayLike) -> Floats:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise InvalidArgument(f"{name} must be an array of numbers, got {type(value).__name__}: {fault}") from fault


def _finite(name: str, array: Floats) -> Floats:
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InvalidArgument(f"{name} must be finite, got {array[where]} at index {', '.join(map(str, where))}")
    return array


def _vector(name: str, value: ArrayLike, like: Floats | None = None, other: str = "") -> Floats:
    array = _floats(name, value)
    if array.ndim != 1:
        raise InvalidArgument(f"{name} must have one axis, got shape {array.shape}; pass one episode at a time")
    _same_shape(name, array, like, other)
    return _finite(name, array)


def _mask(name: str, value: ArrayLike, like: Floats, other: str) -> NDArray[np.bool_]:
    array: NDArray[Any] = np.asarray(value)
    _same_shape(name, array, like, other)
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise InvalidArgument(f"{name} must hold only True and False (or 1 and 0), got dtype {array.dtype}")
    return array.astype(np.bool_)


def _same_shape(name: str, array: NDArray[Any], like: Floats | None, other: str) -> None:
    if like is not None and array.shape != like.shape:
        raise InvalidArgument(f"{name} has shape {array.shape}, but {other} has shape {like.shape}; they must be equal")


def _number(name: str, value: float) -> float:
    array = _finite(name, _floats(name, value))
    if array.ndim:
        raise InvalidArgument(f"{name} must be one number, got shape {array.shape}")
    return float(array)


def _unit(name: str, value: float) -> None:
    if not 0.0 <= _number(name, value) <= 1.0:
        raise InvalidArgument(f"{name} must be in [0, 1], got {value!r}")
