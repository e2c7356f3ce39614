"""Credit without a critic: an episode is compared with others of the same task and the same policy.

R_k is the return of episode k, Σ_t γ^t·r_t. An episode that a fault cut off has no return: it is left out of the comparison and
gets advantage 0. So does an episode that is alone in its group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .episodes import Bools, Episodes, Floats, Integers, discounted_sum

__all__ = ["gigpo", "gigpo_std", "grpo", "mt_grpo", "process_grpo", "rloo"]

TINY = 1e-8
"""If the standard deviation of a group is below this, relative to its largest return, its advantages are 0."""


def rloo(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """REINFORCE with the mean of the other episodes as baseline (leave one out).

        A_k = R_k - 1/(G-1)·Σ_{j≠k} R_j                      for every step of episode k, G episodes in its group

    Source: Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization" (arXiv 2402.14740), equation 8.

    Args:
        episodes: Uses ``rewards, groups, valid``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.

    Returns:
        (B, T)
    """
    returns = _returns(episodes, gamma)[:, 0]  # (B,)
    total, _, count = _per_group(returns, episodes.groups, episodes.valid)
    baseline = (total - returns) / np.maximum(count - 1, 1)
    return _over_steps(episodes, np.where(count > 1, returns - baseline, 0.0))


def grpo(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """Returns, standardized within their group.

        A_k = (R_k - mean(R)) / std(R)                       for every step of episode k; population std over its group

    Source: Shao et al., "DeepSeekMath" (arXiv 2402.03300), section 4.1.2, outcome supervision.

    Args:
        episodes: Uses ``rewards, groups, valid``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.

    Returns:
        (B, T)
    """
    return _over_steps(episodes, _standardized(_returns(episodes, gamma)[:, 0], episodes.groups, episodes.valid))


def process_grpo(episodes: Episodes, gamma: float, lam: float) -> Floats:
    """Step rewards, standardized over all steps of the group and then summed up from each step on.

        A_{k,t} = Σ_{j≥t} γ^{j-t}·(r_{k,j} - mean(r)) / std(r)      mean and population std over all steps of all episodes of the group

    Unlike in ``grpo``, a useful step gets more than a useless one of the same episode. A step whose reward is below the group's mean
    lowers the advantage of every step before it, so longer episodes of such steps fall behind. Source: Shao et al., "DeepSeekMath"
    (arXiv 2402.03300), section 4.1.3, process supervision; there γ is 1.

    Args:
        episodes: Uses ``rewards, groups, valid``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.

    Returns:
        (B, T)
    """
    row, column = np.nonzero(episodes.live)
    scaled = np.zeros_like(episodes.rewards)
    scaled[row, column] = _standardized(episodes.rewards[row, column], episodes.groups[row], episodes.valid[row])
    return discounted_sum(scaled, gamma)


def mt_grpo(episodes: Episodes, gamma: float, lam: float, weight: float = 1.0) -> Floats:
    """Rewards of turns and of the outcome, standardized apart.

        A_{k,t} = (O_k - mean(O)) / std(O) + ω·(r_{k,t} - mean(r_t)) / std(r_t)      for a turn
        A_{k,t} = (O_k - mean(O)) / std(O)                                           for the answer

    The answer is the last step; its reward is the outcome O_k. All other steps are turns, also the last one of an episode that has no
    answer because its budget was used up; the outcome of that is 0. Rewards r_t are compared among the episodes of the group for which step t
    is a turn. Source: Zeng et al., "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment" (arXiv 2505.11821v1),
    section 4.2, for two turns, of which the first has a reward of its own; this is the same for any number of turns. Its code
    (SiliangZeng/Multi-Turn-RL-Agent) divides by the sample standard deviation plus 1e-4 and gives an episode without a tool call the
    standardized sum of both rewards.

    Args:
        episodes: Uses ``rewards, groups, valid, answered``.
        gamma: Not used: the outcome counts the same for all steps, and a turn's reward for its own step only.
        lam: Not used.
        weight: ω ≥ 0.

    Returns:
        (B, T)
    """
    last = episodes.lengths - 1
    outcome = np.where(episodes.answered, episodes.rewards[np.arange(len(last)), last], 0.0)
    count = episodes.lengths - episodes.answered  # (B,) turns
    turns = np.zeros_like(episodes.rewards)
    for t in range(int(count.max())):
        turns[:, t] = _standardized(episodes.rewards[:, t], episodes.groups, episodes.valid & (t < count))
    return _over_steps(episodes, _standardized(outcome, episodes.groups, episodes.valid)) + weight * turns


def gigpo(episodes: Episodes, gamma: float, lam: float, weight: float = 1.0) -> Floats:
    """Groups within groups: episodes of a task are compared with each other, and steps with those that were taken in the same state.

        A_{k,t} = R_k - mean(R) + ω·(G_{k,t} - mean(G(s))),    G_{k,t} = Σ_{j≥t} γ^{j-t}·r_j

    where G(s) are the returns-to-go of all steps of the group that were taken in state s. A state with only one step adds
    nothing. Source: Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training" (arXiv 2505.10978),
    equations 3 and 5 to 8, numbered as in its code (langfengQ/verl-agent, gigpo/core_gigpo.py), in the form that is the default there
    (``mean_norm``); ``gigpo_std`` is the other one. There the sum of rewards by which episodes are compared is not discounted (here γ
    acts in both terms), and an episode enters mean(R) once for each of its steps (here, as in the paper, once).

    Args:
        episodes: Uses ``rewards, groups, states, valid``.
        gamma: γ in [0, 1], once per step.
        lam: Not used.
        weight: ω ≥ 0.

    Returns:
        (B, T)
    """
    return _group_in_group(episodes, gamma, weight, _centered)


def gigpo_std(episodes: Episodes, gamma: float, lam: float, weight: float = 1.0) -> Floats:
    """``gigpo`` with both differences divided by the standard deviation of what is compared.

        A_{k,t} = (R_k - mean(R)) / std(R) + ω·(G_{k,t} - mean(G(s))) / std(G(s))

    Source, arguments and result: as for ``gigpo``; the population std, as in ``grpo``.
    """
    return _group_in_group(episodes, gamma, weight, _standardized)


def _group_in_group(episodes: Episodes, gamma: float, weight: float, compare: Callable[[Floats, Integers, Bools], Floats]) -> Floats:
    to_go = _returns(episodes, gamma)
    row, column = np.nonzero(episodes.live)
    _, state = np.unique(np.stack([episodes.groups[row], episodes.states[row, column]]), axis=1, return_inverse=True)
    of_steps = np.zeros_like(to_go)
    of_steps[row, column] = compare(to_go[row, column], state.reshape(-1), episodes.valid[row])
    return _over_steps(episodes, compare(to_go[:, 0], episodes.groups, episodes.valid)) + weight * of_steps


def _returns(episodes: Episodes, gamma: float) -> Floats:
    """(B, T) returns-to-go."""
    return discounted_sum(episodes.rewards, gamma)


def _over_steps(episodes: Episodes, per_episode: Floats) -> Floats:
    return np.where(episodes.live, per_episode[:, None], 0.0)


def _centered(values: Floats, groups: Integers, counted: Bools) -> Floats:
    """(n,) x - mean within each group; 0 where ``counted`` is False."""
    total, _, count = _per_group(values, groups, counted)
    return np.where(counted, values - total / np.maximum(count, 1), 0.0)


def _standardized(values: Floats, groups: Integers, counted: Bools) -> Floats:
    """(n,) (x - mean) / std within each group; 0 where all values of a group are equal, and where ``counted`` is False."""
    _, _, count = _per_group(values, groups, counted)
    centered = _centered(values, groups, counted)
    squares, largest, _ = _per_group(centered**2, groups, counted, np.abs(values))
    std = np.sqrt(squares / np.maximum(count, 1))
    varied = std > TINY * np.maximum(1.0, largest)
    return np.where(varied & counted, centered / np.where(varied, std, 1.0), 0.0)


def _per_group(values: Floats, groups: Integers, counted: Bools, magnitudes: Floats | None = None) -> tuple[Floats, Floats, Floats]:
    """For every entry (n,): the sum of its group, the largest of ``magnitudes`` in it, and how many of its entries count; 0 for entries that do not."""
    _, group = np.unique(groups, return_inverse=True)
    group = group.reshape(-1)
    group_count = int(group.max()) + 1
    total = np.bincount(group[counted], values[counted], group_count)
    count = np.bincount(group[counted], minlength=group_count).astype(np.float64)
    largest = np.zeros(group_count)
    if magnitudes is not None:
        np.maximum.at(largest, group[counted], magnitudes[counted])
    return np.where(counted, total[group], 0.0), largest[group], np.where(counted, count[group], 0.0)
