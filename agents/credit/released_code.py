"""The credit of StepTool's released code, with its defects, for comparison only. docs/credit.md shows what each defect costs.

Source: the behavior of ``src/steptool/step_ppotrainer.py`` in yuyq18/StepTool at 121a6ac and of the advantages in trl
0.10.1, which it calls. The KL penalty that trl adds to the reward of every token is left out: here it is a term of the loss.
"""

from __future__ import annotations

import numpy as np

from .episodes import Episodes, Floats

__all__ = ["placed_rewards", "reference"]


def placed_rewards(episodes: Episodes) -> Floats:
    """Return what the released code pays at the last token of each step.

        r̃_t = r_t·(T - t - 1)

    So the last step, and with it the verdict on the task, counts for nothing. The same reward counts more the earlier it
    comes and the longer the episode is.

    Args:
        episodes: Uses ``rewards``.

    Returns:
        (B, T)
    """
    remaining = episodes.lengths[:, None] - 1 - np.arange(episodes.live.shape[1])
    return np.where(episodes.live, episodes.rewards * remaining, 0.0)


def reference(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """GAE over *all* tokens, with values and rewards of observation tokens set to 0, on ``placed_rewards``.

        δ_j = r̃_j + γ·V_{j+1} - V_j,    A_j = δ_j + γ·λ·A_{j+1}        over all positions j, observations included

    where an observation has V = r̃ = 0. So every step that an observation follows is treated as the last one (V_{j+1} = 0), and
    what a later step is worth crosses an observation of L tokens with weight (γλ)^L: 0.0000047 for 200 tokens at γ = .99, λ = .95.
    Only the advantages of action tokens are returned.

    Args:
        episodes: Uses ``rewards, values, tokens, gaps``. The value after the last step is 0, also where an episode
            was cut off.
        gamma: γ in [0, 1], once per token; .99 in the released code.
        lam: λ in [0, 1], once per token; .95 in the released code.

    Returns:
        (B, T, K)
    """
    rewards, values, tokens = placed_rewards(episodes), episodes.values, episodes.tokens
    rate = gamma * lam
    result = np.zeros((*episodes.live.shape, episodes.token_mask.shape[2]))
    carried = np.zeros(len(values))  # A_{j+1}
    next_value = np.zeros(len(values))  # V_{j+1}
    for t in range(result.shape[1] - 1, -1, -1):
        for k in range(result.shape[2] - 1, -1, -1):
            is_action = k < tokens[:, t]
            reward = np.where(k == tokens[:, t] - 1, rewards[:, t], 0.0)
            carried = np.where(is_action, reward + gamma * next_value - values[:, t] + rate * carried, carried)
            next_value = np.where(is_action, values[:, t], next_value)
            result[:, t, k] = carried
        # The observation before this step, L tokens without value or reward: only its last token sees the value of this step.
        gap = episodes.gaps[:, t]
        carried = np.where(gap > 0, rate ** np.maximum(gap - 1, 0) * (gamma * next_value + rate * carried), carried)
        next_value = np.where(gap > 0, 0.0, next_value)
    return np.where(episodes.token_mask, result, 0.0)
