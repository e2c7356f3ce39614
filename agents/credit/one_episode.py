"""Credit of one episode, for algorithms that do not work on batches.

The same estimators as in ``schemes.py``, on plain arrays; that module defines the time indices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from steptool_env.errors import InvalidArgument

from .arrays import as_mask, as_number, as_vector, check_unit
from .episodes import Episodes, Floats, discounted_sum
from .schemes import step

__all__ = ["rewards_to_go", "step_gae", "step_returns"]


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
    v_t = as_vector("values", values, like=r_t, like_name="rewards")  # (T,)
    last = as_number("bootstrap_value", bootstrap_value)
    check_unit("gamma", gamma)
    check_unit("lam", lam)
    if not len(r_t):
        return r_t
    advantages: Floats = step(Episodes.of([r_t], values=[v_t], bootstrap=[last]), gamma, lam)[0]
    return advantages


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
    return step_gae(r_t, np.zeros_like(r_t), last, gamma, 1.0)


def rewards_to_go(rewards: ArrayLike, action_mask: ArrayLike, gamma: float) -> Floats:
    """Discounted return of every action token, as if the observation tokens were not there.

    Let n(i) be the first action token after token i. For an action token i

        G_i = r_i + γ·G_{n(i)}                   (G_i = r_i at the last action token)

    so γ acts once from each action token to the next one, also where a thousand observation tokens lie between the two.
    An observation token i is not an action and has no return: G_i = 0.
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
    if (stray := np.flatnonzero(~mask & (r_i != 0))).size:
        i = int(stray[0])
        raise InvalidArgument(f"rewards[{i}] is {r_i[i]}, but token {i} is an observation; put the reward on the last token of the action")
    returns = np.zeros_like(r_i)
    returns[mask] = discounted_sum(r_i[mask][None], gamma)[0]
    return returns
