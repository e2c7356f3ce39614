"""Credit without a critic: an episode is compared with others of the same task, which the same policy played.

R_k is the return of episode k, Σ_t γ^t·r_t. An episode that a fault cut off has no return: it is compared with nothing and
gets 0; so does an episode that is alone in its group.
"""

from __future__ import annotations

import numpy as np

from .episodes import Bools, Episodes, Floats, Integers, discounted_sum

__all__ = ["gigpo", "grpo", "rloo"]

TINY = 1e-8
"""Groups whose standard deviation is below this, relative to their largest return, are all equal: their advantages are 0."""


def rloo(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """REINFORCE with the mean of the other episodes as baseline (leave one out).

        A_k = R_k - 1/(G-1)·Σ_{j≠k} R_j                      for every step of episode k, G episodes in its group

    Source: Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization" (arXiv 2402.14740), equation 8.

    Args:
        episodes: Uses ``rewards, groups, known``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.

    Returns:
        (B, T)
    """
    returns = _returns(episodes, gamma)[:, 0]  # (B,)
    total, _, count = _per_group(returns, episodes.groups, episodes.known)
    baseline = (total - returns) / np.maximum(count - 1, 1)
    return _spread(episodes, np.where(count > 1, returns - baseline, 0.0))


def grpo(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """Returns on the scale of their group.

        A_k = (R_k - mean(R)) / std(R)                       for every step of episode k; population std over its group

    Source: Shao et al., "DeepSeekMath" (arXiv 2402.03300), section 4.1.2, outcome supervision.

    Args:
        episodes: Uses ``rewards, groups, known``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.

    Returns:
        (B, T)
    """
    return _spread(episodes, _standardized(_returns(episodes, gamma)[:, 0], episodes.groups, episodes.known))


def gigpo(episodes: Episodes, gamma: float, lam: float, weight: float = 1.0) -> Floats:
    """Groups in groups: as ``grpo`` between episodes, and the same between steps that were chosen in the same state.

        A_{k,t} = (R_k - mean(R)) / std(R) + ω·(G_{k,t} - mean(G(s))) / std(G(s)),    G_{k,t} = Σ_{j≥t} γ^{j-t}·r_j

    where G(s) are the returns-to-go of all steps of the group that were chosen in state s. A state that only one step was in
    adds nothing. Source: Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training" (arXiv 2505.10978),
    equations 3 and 5 to 8, numbered as in its code (langfengQ/verl-agent, gigpo/core_gigpo.py). There the sum of rewards that
    episodes are compared by is not discounted, and the division by the standard deviation can be switched off; here γ acts
    in both terms, which makes a difference only below 1.

    Args:
        episodes: Uses ``rewards, groups, states, known``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.
        weight: ω ≥ 0.

    Returns:
        (B, T)
    """
    to_go = _returns(episodes, gamma)
    row, column = np.nonzero(episodes.live)
    _, state = np.unique(np.stack([episodes.groups[row], episodes.states[row, column]]), axis=1, return_inverse=True)
    between = np.zeros_like(to_go)
    between[row, column] = _standardized(to_go[row, column], state.reshape(-1), episodes.known[row])
    return grpo(episodes, gamma, lam) + weight * between


def _returns(episodes: Episodes, gamma: float) -> Floats:
    """(B, T) returns-to-go."""
    return discounted_sum(episodes.rewards, gamma)


def _spread(episodes: Episodes, per_episode: Floats) -> Floats:
    return np.where(episodes.live, per_episode[:, None], 0.0)


def _standardized(values: Floats, groups: Integers, counted: Bools) -> Floats:
    """(n,) (x - mean) / std within each group; 0 where a group has no spread, and where ``counted`` is False."""
    total, _, count = _per_group(values, groups, counted)
    centered = np.where(counted, values - total / np.maximum(count, 1), 0.0)
    squares, largest, _ = _per_group(centered**2, groups, counted, np.abs(values))
    std = np.sqrt(squares / np.maximum(count, 1))
    spread = std > TINY * np.maximum(1.0, largest)
    return np.where(spread & counted, centered / np.where(spread, std, 1.0), 0.0)


def _per_group(values: Floats, groups: Integers, counted: Bools, sizes: Floats | None = None) -> tuple[Floats, Floats, Floats]:
    """For every entry (n,): the sum of its group, the largest of ``sizes`` in it, and how many count; 0 for those that do not."""
    _, place = np.unique(groups, return_inverse=True)
    place = place.reshape(-1)
    width = int(place.max()) + 1
    total = np.bincount(place[counted], values[counted], width)
    count = np.bincount(place[counted], minlength=width).astype(np.float64)
    largest = np.zeros(width)
    if sizes is not None:
        np.maximum.at(largest, place[counted], sizes[counted])
    return np.where(counted, total[place], 0.0), largest[place], np.where(counted, count[place], 0.0)
