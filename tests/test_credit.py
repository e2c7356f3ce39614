"""Credit: numbers worked out by hand, and the laws of DESIGN: observations change nothing, the last step counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptool_agents.credit import CREDIT, normalize, rewards_to_go, step_gae, step_returns
from steptool_env.errors import InvalidArgument

NUMBERS = st.floats(-10, 10, allow_subnormal=False)
RATES = st.floats(0, 1, allow_subnormal=False)
EPISODES = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12)
"""(reward, value) of every step."""


# ---------------------------------------------------------------- step_gae
def test_gae_by_hand() -> None:
    # The reward comes at the last of three steps, every value is .7, γλ = .99·.95 = .9405.
    # δ_2 = 1 + .99·0  - .7 =  .3                   A_2 = .3
    # δ_1 = 0 + .99·.7 - .7 = -.007                 A_1 = -.007 + .9405·.3      = .27515
    # δ_0 = 0 + .99·.7 - .7 = -.007                 A_0 = -.007 + .9405·.27515  = .251778575
    got = step_gae([0, 0, 1], [0.7, 0.7, 0.7], 0.0, 0.99, 0.95)
    np.testing.assert_allclose(got, [0.251778575, 0.27515, 0.3], rtol=0, atol=1e-12)


def test_gae_by_hand_when_truncated() -> None:
    # The value after the last step is .5; γ = ½, λ = ½, γλ = ¼.
    # δ_1 = 2 + ½·.5 - 1 = 1.25                     A_1 = 1.25
    # δ_0 = 1 + ½·1  - 3 = -1.5                     A_0 = -1.5 + ¼·1.25 = -1.1875
    np.testing.assert_allclose(step_gae([1, 2], [3, 1], 0.5, 0.5, 0.5), [-1.1875, 1.25], rtol=0, atol=1e-15)


def test_gae_of_one_step() -> None:
    np.testing.assert_array_equal(step_gae([1.0], [0.25], 0.0, 0.99, 0.95), [0.75])  # 1 - .25


def test_a_step_in_the_middle_is_not_treated_as_the_end() -> None:
    # With nothing but the values, a step that loses nothing has an advantage near 0: δ = .99·.7 - .7 = -.007, and not
    # -.7, which it would be if the state after the tool's answer were worth nothing.
    assert step_gae([0, 0], [0.7, 0.7], 0.7, 0.99, 0.0).tolist() == pytest.approx([-0.007, -0.007], abs=1e-12)


@given(EPISODES, NUMBERS, RATES, RATES)
def test_gae_is_the_double_sum(episode: list[tuple[float, float]], bootstrap: float, gamma: float, lam: float) -> None:
    rewards, values = zip(*episode, strict=True)
    v = [*values, bootstrap]
    count = len(rewards)
    delta = [rewards[t] + gamma * v[t + 1] - v[t] for t in range(count)]
    expected = [math.fsum((gamma * lam) ** (k - t) * delta[k] for k in range(t, count)) for t in range(count)]
    np.testing.assert_allclose(step_gae(rewards, values, bootstrap, gamma, lam), expected, rtol=1e-9, atol=1e-9)


@given(EPISODES, NUMBERS, RATES)
def test_gae_with_lambda_1_and_no_values_is_the_return(episode: list[tuple[float, float]], bootstrap: float, gamma: float) -> None:
    rewards = [reward for reward, _ in episode]
    got = step_gae(rewards, np.zeros(len(rewards)), bootstrap, gamma, 1.0)
    np.testing.assert_allclose(got, step_returns(rewards, gamma, bootstrap), rtol=1e-9, atol=1e-9)


@given(EPISODES, NUMBERS, RATES)
def test_gae_with_lambda_1_is_the_return_minus_the_value(episode: list[tuple[float, float]], bootstrap: float, gamma: float) -> None:
    rewards, values = zip(*episode, strict=True)
    got = step_gae(rewards, values, bootstrap, gamma, 1.0)
    np.testing.assert_allclose(got, step_returns(rewards, gamma, bootstrap) - np.array(values), rtol=1e-9, atol=1e-9)


@given(EPISODES, NUMBERS, RATES)
def test_gae_with_lambda_0_is_the_one_step_error(episode: list[tuple[float, float]], bootstrap: float, gamma: float) -> None:
    rewards, values = map(np.array, zip(*episode, strict=True))
    following = np.array([*values[1:], bootstrap])
    np.testing.assert_allclose(step_gae(rewards, values, bootstrap, gamma, 0.0), rewards + gamma * following - values, rtol=1e-9, atol=1e-9)


@given(EPISODES, st.floats(0.1, 1), st.floats(0.1, 1))
def test_the_last_reward_reaches_every_step(episode: list[tuple[float, float]], gamma: float, lam: float) -> None:
    rewards, values = map(np.array, zip(*episode, strict=True))
    solved = rewards.copy()
    solved[-1] += 1.0
    gain = step_gae(solved, values, 0.0, gamma, lam) - step_gae(rewards, values, 0.0, gamma, lam)
    weights = [(gamma * lam) ** (len(rewards) - 1 - t) for t in range(len(rewards))]
    np.testing.assert_allclose(gain, weights, rtol=1e-6, atol=1e-9)
    assert gain[-1] == pytest.approx(1.0)


# ---------------------------------------------------------------- step_returns
def test_returns_by_hand() -> None:
    # G_2 = 1;  G_1 = 0 + ½·1 = .5;  G_0 = 2 + ½·.5 = 2.25
    np.testing.assert_array_equal(step_returns([2, 0, 1], 0.5), [2.25, 0.5, 1.0])
    # With a value of 4 after the end: G_2 = 1 + ½·4 = 3;  G_1 = 1.5;  G_0 = 2.75
    np.testing.assert_array_equal(step_returns([2, 0, 1], 0.5, 4.0), [2.75, 1.5, 3.0])


# ---------------------------------------------------------------- rewards_to_go
def test_rewards_to_go_by_hand_across_an_observation() -> None:
    # prompt  call  call  observation ×3    call  call      γ = ½
    #    .      .     1    .    .    .       .     2
    # Action tokens alone: rewards 0, 1, 0, 2.  G = 2;  ½·2 = 1;  1 + ½·1 = 1.5;  ½·1.5 = .75
    rewards = [0, 0, 1, 0, 0, 0, 0, 2]
    mask = [0, 1, 1, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(rewards_to_go(rewards, mask, 0.5), [0, 0.75, 1.5, 0, 0, 0, 1.0, 2.0])


def test_a_long_observation_costs_nothing() -> None:
    rewards, mask = np.zeros(10_002), np.zeros(10_002, dtype=bool)
    mask[[0, -1]], rewards[-1] = True, 1.0
    assert rewards_to_go(rewards, mask, 0.99)[0] == 0.99  # one discount, where one per token would leave .99**10001 = 2e-44


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 20)), min_size=1, max_size=20), st.integers(0, 5), RATES)
def test_observations_change_no_return(tokens: list[tuple[float, int]], before: int, gamma: float) -> None:
    """Each action token is followed by any number of observation tokens; the returns are those of the bare actions."""
    bare = [reward for reward, _ in tokens]
    rewards, mask = [0.0] * before, [False] * before
    for reward, observation in tokens:
        rewards += [reward] + [0.0] * observation
        mask += [True] + [False] * observation
    got = rewards_to_go(rewards, mask, gamma)
    np.testing.assert_array_equal(got[np.array(mask)], rewards_to_go(bare, [True] * len(bare), gamma))
    assert not got[~np.array(mask)].any()


@given(st.lists(st.tuples(NUMBERS, st.booleans()), max_size=15), RATES)
def test_rewards_to_go_is_the_double_sum(tokens: list[tuple[float, bool]], gamma: float) -> None:
    mask = [acts for _, acts in tokens]
    rewards = [reward if acts else 0.0 for reward, acts in tokens]
    expected = []
    for i, acts in enumerate(mask):
        total = [gamma ** sum(mask[i:k]) * rewards[k] for k in range(i, len(mask)) if mask[k]]
        expected.append(math.fsum(total) if acts else 0.0)
    np.testing.assert_allclose(rewards_to_go(rewards, mask, gamma), expected, rtol=1e-9, atol=1e-9)


def test_without_discount_tokens_and_steps_agree() -> None:
    # Steps of 2, 1 and 3 tokens with rewards 1, 0, 2 on their last tokens.
    got = rewards_to_go([0, 1, 0, 0, 0, 2], [True] * 6, 1.0)
    np.testing.assert_array_equal(got, np.repeat(step_returns([1, 0, 2], 1.0), [2, 1, 3]))


# ---------------------------------------------------------------- normalize
def test_normalize_by_hand() -> None:
    # mean 2, deviations -1, 1, variance 1
    np.testing.assert_array_equal(normalize([1, 3]), [-1, 1])
    np.testing.assert_array_equal(normalize([1, 99, 3], [True, False, True]), [-1, 0, 1])


@pytest.mark.parametrize("constant", [[], [5.0], [0.1] * 7, [1e9 / 3] * 3, [[2.0, 2.0], [2.0, 2.0]]])
def test_constant_advantages_become_zero(constant: list[Any]) -> None:
    got = normalize(constant)
    assert got.shape == np.shape(constant)
    assert not got.any()


@given(st.lists(st.tuples(st.integers(-1000, 1000), st.booleans()), max_size=30))
def test_normalized_mean_is_0_and_std_is_1(entries: list[tuple[int, bool]]) -> None:
    x, mask = np.array([x for x, _ in entries], dtype=float), np.array([counted for _, counted in entries], dtype=bool)
    got = normalize(x, mask)
    assert not got[~mask].any()
    if len(set(x[mask])) > 1:
        assert got[mask].mean() == pytest.approx(0.0, abs=1e-9)
        assert got[mask].std() == pytest.approx(1.0)
        assert (np.argsort(got[mask], kind="stable") == np.argsort(x[mask], kind="stable")).all()
    else:
        assert not got.any()


def test_what_does_not_count_may_be_anything() -> None:
    np.testing.assert_array_equal(normalize([1, math.nan, 3], [1, 0, 1]), [-1, 0, 1])


# ---------------------------------------------------------------- mistakes
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: step_gae([0, 1], [0.5], 0.0, 0.9, 0.9), r"values has shape \(1,\), but rewards has shape \(2,\)"),
        (lambda: step_gae([[0, 1]], [[0, 1]], 0.0, 0.9, 0.9), "rewards must have one axis"),
        (lambda: step_gae([0, math.nan], [0, 0], 0.0, 0.9, 0.9), "rewards must be finite, got nan at index 1"),
        (lambda: step_gae([0, 0], [0, math.inf], 0.0, 0.9, 0.9), "values must be finite, got inf at index 1"),
        (lambda: step_gae([0], [0], math.nan, 0.9, 0.9), "bootstrap_value must be finite"),
        (lambda: step_gae([0], [0], [0.0], 0.9, 0.9), "bootstrap_value must be one number"),  # type: ignore[arg-type]
        (lambda: step_gae([0], [0], 0.0, 1.1, 0.9), r"gamma must be in \[0, 1\], got 1.1"),
        (lambda: step_gae([0], [0], 0.0, 0.9, -0.1), r"lam must be in \[0, 1\], got -0.1"),
        (lambda: step_gae("ab", [0], 0.0, 0.9, 0.9), "rewards must be an array of numbers, got str"),
        (lambda: step_returns([math.inf], 0.9), "rewards must be finite"),
        (lambda: rewards_to_go([0, 1], [1, 0], 0.9), r"rewards\[1\] is 1.0, but token 1 is an observation"),
        (lambda: rewards_to_go([0, 1], [1], 0.9), "action_mask has shape"),
        (lambda: rewards_to_go([0, 1], [0, 2], 0.9), "action_mask must hold only True and False"),
        (lambda: normalize([1, math.nan]), "advantages must be finite"),
        (lambda: normalize([1, 2], [True]), "mask has shape"),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_the_registry_names_step() -> None:
    assert CREDIT["step"] is step_gae
