"""Credit assignment: from the rewards of an episode to the advantage of every step or of every token.

Pure functions of arrays (float64 in, float64 out): no model, no configuration, no side effects. First those of one episode
(``step_gae``, ``token_gae``, ``step_returns``, ``rewards_to_go``), then the schemes of ``CREDIT``, which take a padded batch
(``Episodes``) and give its advantages, per step (B, T) or per token (B, T, K). Schemes that compare episodes of the same
task are in ``group_credit.py``, the defects of the released code in ``reference_credit.py``.

Time indices. ``t`` counts *steps* (tool calls), 0 ≤ t < T; ``i`` counts *tokens*, 0 ≤ i < L. A step is one action of
the decision process, so γ and λ act once per step, however many tokens its call has and however long the tool's answer
is. Observation tokens are no actions: they carry no reward, no value and no discount. Inserting, deleting or lengthening
them changes no result of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steptool_env.errors import InvalidArgument

from .arrays import as_floats, as_mask, as_number, as_vector, check_finite, check_unit
from .episodes import Episodes, Floats, discounted_sum, over_tokens
from .groups import gigpo, grpo, rloo
from .released_code import reference

__all__ = [
    "CREDIT",
    "NORMALIZED",
    "Floats",
    "Scheme",
    "bilevel",
    "normalize",
    "rewards_to_go",
    "step",
    "step_gae",
    "step_returns",
    "token",
    "token_gae",
    "trajectory",
]

Scheme: TypeAlias = Callable[[Episodes, float, float], Floats]
"""``(episodes, gamma, lam)`` -> advantages, (B, T) over steps or (B, T, K) over action tokens; 0 in the padding."""


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
    r_t = as_vector("rewards", rewards)  # (T,)
    v_t = as_vector("values", values, like=r_t, other="rewards")  # (T,)
    last = as_number("bootstrap_value", bootstrap_value)
    check_unit("gamma", gamma)
    check_unit("lam", lam)
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
    r_t = as_vector("rewards", rewards)
    last = as_number("bootstrap_value", bootstrap_value)
    check_unit("gamma", gamma)
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
    r_i = as_vector("rewards", rewards)  # (L,)
    mask = as_mask("action_mask", action_mask, r_i, "rewards")  # (L,)
    check_unit("gamma", gamma)
    _no_stray(r_i, mask)
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
    x = as_floats("advantages", advantages)
    counted = np.ones(x.shape, dtype=bool) if mask is None else as_mask("mask", mask, x, "advantages")
    kept = check_finite("advantages", x[counted])
    result = np.zeros_like(x)
    if kept.size:
        centred = kept - kept.mean()
        std = float(np.sqrt(np.mean(centred**2)))
        if std > 1e-8 * max(1.0, float(np.abs(kept).max())):
            result[counted] = centred / std
    return result


def token_gae(rewards: ArrayLike, values: ArrayLike, action_mask: ArrayLike, bootstrap_value: float, gamma: float, lam: float) -> Floats:
    """Generalized advantage estimation with the action token as the unit of time, as if observation tokens were not there.

    Let n(i) be the first action token after token i. For an action token i

        δ_i = r_i + γ·V_{n(i)} - V_i,    A_i = δ_i + γ·λ·A_{n(i)}        (V_{n(i)} = ``bootstrap_value`` at the last action token)

    Source: Schulman et al. (arXiv 1506.02438), equation 16, over the compacted sequence. PPO for language models does the
    same within one answer; across the turns of an episode it is right only when observations are left out, as here.

    Args:
        rewards: (L,) r_i; observation tokens hold 0.
        values: (L,) V_i; what observation tokens hold is ignored.
        action_mask: (L,) True at action tokens.
        bootstrap_value: The value after the last action token.
        gamma: γ in [0, 1], once per action token.
        lam: λ in [0, 1], once per action token.

    Returns:
        (L,) advantages; 0 where ``action_mask`` is False.

    Raises:
        InvalidArgument: As ``rewards_to_go``.
    """
    r_i = as_vector("rewards", rewards)  # (L,)
    v_i = as_vector("values", values, like=r_i, other="rewards")
    mask = as_mask("action_mask", action_mask, r_i, "rewards")
    _no_stray(r_i, mask)
    advantages = np.zeros_like(r_i)
    advantages[mask] = step_gae(r_i[mask], v_i[mask], bootstrap_value, gamma, lam)
    return advantages


# ---------------------------------------------------------------- schemes over a batch
def step(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """``step_gae`` of every episode: γ and λ act once per step. The default.

    With zero values and λ = 1 it is the return from each step on, so that it serves as REINFORCE with rewards-to-go, too.

    Args:
        episodes: Uses ``rewards, values, bootstrap``.
        gamma: γ in [0, 1].
        lam: λ in [0, 1].

    Returns:
        (B, T)
    """
    _rates(gamma, lam)
    delta = episodes.rewards + gamma * episodes.next_values - episodes.values
    return discounted_sum(np.where(episodes.live, delta, 0.0), gamma * lam)


def token(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """``token_gae`` of every episode: γ and λ act once per action token; long calls weaken the link between steps.

    The critic says one value per step; within a step it is that of all its tokens. The reward of a step is paid at its last
    token. A step without any token (the context was full) counts as one, so that what follows it is not lost.

    Args:
        episodes: Uses ``rewards, values, bootstrap, tokens``.
        gamma: γ in [0, 1].
        lam: λ in [0, 1].

    Returns:
        (B, T, K)
    """
    _rates(gamma, lam)
    counts = np.where(episodes.live, np.maximum(episodes.tokens, 1), 0)
    longest = int(counts.max())
    result = np.zeros((*episodes.live.shape, longest))
    carried = np.zeros(len(episodes.live))
    within, after = (gamma - 1.0) * episodes.values, episodes.rewards + gamma * episodes.next_values - episodes.values
    for t in range(result.shape[1] - 1, -1, -1):
        for k in range(longest - 1, -1, -1):
            delta = np.where(k == counts[:, t] - 1, after[:, t], within[:, t])
            carried = np.where(k < counts[:, t], delta + gamma * lam * carried, carried)
            result[:, t, k] = carried
    return np.where(episodes.token_mask, result, 0.0)


def trajectory(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """One advantage for all steps of an episode: its whole return less the value of its first state.

        A_t = Σ_k γ^k·r_k + γ^T·V_T - V_0                    for every t

    The credit of a bandit: right and wrong steps of one episode share it. Source: the return of REINFORCE for whole
    answers (Williams, 1992), with a baseline.

    Args:
        episodes: Uses ``rewards, values, bootstrap``.
        gamma: γ in [0, 1].
        lam: Not used.

    Returns:
        (B, T)
    """
    _rates(gamma, lam)
    ends = np.zeros_like(episodes.rewards)
    ends[np.arange(len(ends)), episodes.lengths - 1] = gamma * episodes.bootstrap
    total = discounted_sum(episodes.rewards + ends, gamma)[:, :1] - episodes.values[:, :1]
    return np.where(episodes.live, total, 0.0)


def bilevel(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """GAE on two levels: first over steps, then, within each step, from its last token to its first.

        Ã_t = δ_t + γ·λ·Ã_{t+1}                              over steps, as in ``step``
        A_{t,K_t} = Ã_t,   A_{t,i} = δ_{t,i} + λ·A_{t,i+1}   over the tokens of step t

    With one value per step and no discount between the tokens of a call, δ_{t,i} is 0, so that A_{t,i} = λ^{K_t - i}·Ã_t: the
    first tokens of a long call get less. At λ = 1 it equals ``step``. Source: Wang et al., "VAGEN: Reinforcing World Model
    Reasoning for Multi-Turn VLM Agents" (arXiv 2510.16907), Bi-Level GAE, and ``compute_bi_level_gae_advantage_return`` in
    its code (williamzhangNU/VAGEN, vagen/trainer/ppo/core_algos.py). There the critic has a value for every token, and a KL
    penalty is part of the reward of every token; here the KL divergence is a term of the loss.

    Args:
        episodes: Uses ``rewards, values, bootstrap, tokens``.
        gamma: γ in [0, 1], once per step.
        lam: λ in [0, 1], on both levels.

    Returns:
        (B, T, K)
    """
    return over_tokens(episodes, step(episodes, gamma, lam), lam)


CREDIT: dict[str, Scheme] = {
    "step": step,
    "token": token,
    "trajectory": trajectory,
    "rloo": rloo,
    "grpo": grpo,
    "gigpo": gigpo,
    "bilevel": bilevel,
    "reference": reference,
}
"""Name -> credit scheme; add an entry to add a scheme."""

NORMALIZED = frozenset({"grpo", "gigpo"})
"""Schemes that bring their advantages to a common scale themselves; those of all others are whitened over the batch."""


def _discounted_sum(x: Floats, rate: float, last: float) -> Floats:
    """(T,) y_t = x_t + rate·y_{t+1} with y_T = last."""
    y = np.empty_like(x)
    for t in range(len(x) - 1, -1, -1):
        y[t] = last = x[t] + rate * last
    return y


def _no_stray(r_i: Floats, mask: NDArray[np.bool_]) -> None:
    stray = np.flatnonzero(~mask & (r_i != 0))
    if stray.size:
        i = int(stray[0])
        raise InvalidArgument(f"rewards[{i}] is {r_i[i]}, but token {i} is an observation; put the reward on the last token of the action")


def _rates(gamma: float, lam: float) -> None:
    check_unit("gamma", gamma)
    check_unit("lam", lam)
