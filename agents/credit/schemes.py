"""Credit assignment over a batch: the schemes of ``CREDIT``, from the rewards of episodes to the advantage of every step or token.

Pure functions of arrays (float64 in, float64 out): no model, no configuration, no side effects. They take a padded batch
(``Episodes``) and return its advantages, per step (B, T) or per token (B, T, K). Schemes that compare episodes of the same
task are in ``groups.py``, the defects of the released code in ``released_code.py``, functions of one episode in ``one_episode.py``.

Time indices. ``t`` counts *steps* (tool calls), 0 ≤ t < T; ``i`` counts *tokens*, 0 ≤ i < L. A step is one action of
the decision process, so γ and λ act once per step, however many tokens its call has and however long the tool's answer
is. Observation tokens are not actions: they carry no reward, no value and no discount. Inserting, deleting or lengthening
them changes no result of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .arrays import as_floats, as_mask, check_finite, check_unit
from .episodes import Episodes, Floats, discounted_sum, over_tokens
from .groups import gigpo, gigpo_std, grpo, mt_grpo, process_grpo, rloo
from .released_code import reference

__all__ = ["CREDIT", "SCALING", "Scaling", "Scheme", "bilevel", "normalize", "step", "token", "trajectory"]

Scheme: TypeAlias = Callable[[Episodes, float, float], Floats]
"""``(episodes, gamma, lam)`` -> advantages, (B, T) over steps or (B, T, K) over action tokens; 0 in the padding."""


Scaling: TypeAlias = Literal["whiten", "scale", "none"]
"""``"whiten"``: to mean 0 and standard deviation 1 over the batch; ``"scale"``: only divide by the standard deviation, so that 0 stays 0;
``"none"``: as they are."""


def normalize(advantages: ArrayLike, mask: ArrayLike | None = None, *, center: bool = True) -> Floats:
    """Shift and scale to mean 0 and standard deviation 1 over the whole batch.

        x_i ← (x_i - mean(x)) / std(x)           with the population std, over the entries where ``mask`` is True
        x_i ← x_i / std(x)                       without ``center``

    A constant input gives zeros: dividing by the rounding error of its standard deviation would turn noise into advantages.
    "Constant" means std(x) ≤ 1e-8·max(1, max|x|).

    Args:
        advantages: Any shape; one entry per step, so that long calls do not outweigh short ones.
        mask: The same shape; True (or 1) where an entry counts. None: all count.
        center: Whether to subtract the mean.

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
        centered = kept - kept.mean()
        std = float(np.sqrt(np.mean(centered**2)))
        if std > 1e-8 * max(1.0, float(np.abs(kept).max())):
            result[counted] = (centered if center else kept) / std
    return result


def step(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """``step_gae`` of every episode: γ and λ act once per step. The default.

    With zero values and λ = 1 this is the return from each step on, that is, REINFORCE with rewards-to-go.

    Args:
        episodes: Uses ``rewards, values, bootstrap``.
        gamma: γ in [0, 1].
        lam: λ in [0, 1].

    Returns:
        (B, T)
    """
    _check_rates(gamma, lam)
    delta = episodes.rewards + gamma * episodes.next_values - episodes.values
    return discounted_sum(np.where(episodes.live, delta, 0.0), gamma * lam)


def token(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """GAE with the action token as the unit of time: γ and λ act once per action token, so long calls weaken the credit between steps.

    Let n(i) be the action token after token i, in this step or the next one. For an action token i

        δ_i = r_i + γ·V_{n(i)} - V_i,    A_i = δ_i + γ·λ·A_{n(i)}        (V_{n(i)} = ``bootstrap`` at the last action token)

    Source: Schulman et al. (arXiv 1506.02438), equation 16, over the compacted sequence. PPO for language models does the
    same within one answer; across the turns of an episode it is right only when observations are left out, as here.

    The critic gives one value per step, which all tokens of the step share. The reward of a step is paid at its last token. A
    step without tokens (the context was full) counts as one token, so that the credit of later steps passes through it.

    Args:
        episodes: Uses ``rewards, values, bootstrap, tokens``.
        gamma: γ in [0, 1].
        lam: λ in [0, 1].

    Returns:
        (B, T, K)
    """
    _check_rates(gamma, lam)
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
    """One advantage for all steps of an episode: its whole return minus the value of its first state.

        A_t = Σ_k γ^k·r_k + γ^T·V_T - V_0                    for every t

    This is the credit of a bandit: right and wrong steps of an episode get the same. Source: the return of REINFORCE for whole
    answers (Williams, 1992), with a baseline.

    Args:
        episodes: Uses ``rewards, values, bootstrap``.
        gamma: γ in [0, 1].
        lam: Not used.

    Returns:
        (B, T)
    """
    _check_rates(gamma, lam)
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
    "process-grpo": process_grpo,
    "mt-grpo": mt_grpo,
    "gigpo": gigpo,
    "gigpo-std": gigpo_std,
    "bilevel": bilevel,
    "reference": reference,
}
"""Name -> credit scheme; add an entry to add a scheme."""

SCALING: dict[str, Scaling] = {
    "rloo": "scale",
    "grpo": "none",
    "process-grpo": "none",
    "mt-grpo": "none",
    "gigpo": "none",
    "gigpo-std": "none",
}
"""How the advantages of a scheme are scaled over the batch; those of all others are whitened. Comparisons within a group have a zero of
their own, the group's mean: shifting it would push episodes that say nothing."""


def _check_rates(gamma: float, lam: float) -> None:
    check_unit("gamma", gamma)
    check_unit("lam", lam)
