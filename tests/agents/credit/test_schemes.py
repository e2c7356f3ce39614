"""Credit: numbers worked out by hand, and the laws of DESIGN: observations change nothing, the last step counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptool_agents.credit.episodes import Episodes
from steptool_agents.credit.one_episode import rewards_to_go, step_gae, step_returns
from steptool_agents.credit.schemes import CREDIT, bilevel, normalize, step, token, trajectory
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


# ---------------------------------------------------------------- schemes over a batch
TWO = Episodes.of([[1, 2], [0, 0, 1]], values=[[3, 1], [0.5, 0.5, 0.5]], bootstrap=[0.5, 0], tokens=[[1, 2], [2, 1, 1]])
"""Two episodes of 2 and 3 steps; the first one was cut off."""


def test_step_by_hand() -> None:
    # Row 0 is test_gae_by_hand_when_truncated.  Row 1, γλ = ¼: δ = ½·.5 - .5 = -.25, -.25, .5
    # A = .5;  -.25 + ¼·.5 = -.125;  -.25 + ¼·(-.125) = -.28125
    np.testing.assert_array_equal(step(TWO, 0.5, 0.5), [[-1.1875, 1.25, 0], [-0.28125, -0.125, 0.5]])


def test_token_by_hand() -> None:
    # Row 0, γ = λ = ½, tokens a | b c with values 3 | 1 1 and rewards 1 | 0 2:
    # δ_c = 2 + ½·.5 - 1 = 1.25;  δ_b = ½·1 - 1 = -.5;  δ_a = 1 + ½·1 - 3 = -1.5
    # A_c = 1.25;  A_b = -.5 + ¼·1.25 = -.1875;  A_a = -1.5 + ¼·(-.1875) = -1.546875
    # Row 1, tokens a b | c | d, all values ½, reward 1 at d:  δ = -.25, -.25, -.25, .5
    # A_d = .5;  A_c = -.125;  A_b = -.28125;  A_a = -.25 - .0703125 = -.3203125
    expected = [[[-1.546875, 0], [-0.1875, 1.25], [0, 0]], [[-0.3203125, -0.28125], [-0.125, 0], [0.5, 0]]]
    np.testing.assert_array_equal(token(TWO, 0.5, 0.5), expected)


def test_trajectory_by_hand() -> None:
    # Row 0, γ = ½: 1 + ½·2 + ¼·.5 - 3 = -.875;   row 1: ¼·1 - .5 = -.25
    np.testing.assert_array_equal(trajectory(TWO, 0.5, 0.5), [[-0.875, -0.875, 0], [-0.25] * 3])


def test_bilevel_by_hand() -> None:
    # The last token of a step has the step's advantage, the one before it λ = ½ of that.
    expected = [[[-1.1875, 0], [0.625, 1.25], [0, 0]], [[-0.140625, -0.28125], [-0.125, 0], [0.5, 0]]]
    np.testing.assert_array_equal(bilevel(TWO, 0.5, 0.5), expected)


def test_a_step_without_tokens_passes_the_reward_on() -> None:
    got = token(Episodes.of([[0, 1]], tokens=[[2, 0]]), 1.0, 1.0)
    np.testing.assert_array_equal(got, [[[1, 1], [0, 0]]])


STEPS = st.tuples(NUMBERS, NUMBERS, st.integers(1, 4), st.integers(0, 30))
"""(reward, value, action tokens, observation tokens) of a step."""
BATCHES = st.lists(st.tuples(st.lists(STEPS, min_size=1, max_size=5), st.integers(0, 2)), min_size=1, max_size=5)
"""Episodes and their groups."""
each_scheme = pytest.mark.parametrize("name", sorted(CREDIT))
each_sound_scheme = pytest.mark.parametrize("name", sorted(set(CREDIT) - {"reference"}))


def batch(episodes: Any, gaps: bool = True) -> Episodes:
    columns = [[list(column) for column in zip(*steps, strict=True)] for steps, _ in episodes]
    return Episodes.of(
        [one[0] for one in columns],
        values=[one[1] for one in columns],
        tokens=[one[2] for one in columns],
        gaps=[one[3] for one in columns] if gaps else None,
        groups=[group for _, group in episodes],
    )


def rows(episodes: Episodes, advantages: np.ndarray) -> list[np.ndarray]:
    """Return the advantages of each episode without the padding, flat."""
    mask = episodes.live if advantages.ndim == 2 else episodes.token_mask
    return [row[kept] for row, kept in zip(advantages, mask, strict=True)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@each_sound_scheme
@given(BATCHES, RATES, RATES)
def test_observations_change_no_advantage(name: str, episodes: Any, gamma: float, lam: float) -> None:
    np.testing.assert_array_equal(CREDIT[name](batch(episodes), gamma, lam), CREDIT[name](batch(episodes, gaps=False), gamma, lam))


@each_scheme
@given(BATCHES, RATES, RATES)
def test_padding_changes_no_advantage(name: str, episodes: Any, gamma: float, lam: float) -> None:
    """A longer episode with longer calls, of another task, beside them."""
    longer = [*episodes, ([(1.0, 0.0, 6, 3)] * 8, 7)]
    alone, beside = batch(episodes), batch(longer)
    same(rows(alone, CREDIT[name](alone, gamma, lam)), rows(beside, CREDIT[name](beside, gamma, lam))[:-1])


@each_scheme
@given(BATCHES, RATES, RATES)
def test_the_padding_holds_zeros(name: str, episodes: Any, gamma: float, lam: float) -> None:
    made = batch(episodes)
    got = CREDIT[name](made, gamma, lam)
    assert not got[~(made.live if got.ndim == 2 else made.token_mask)].any()
    assert np.isfinite(got).all()


@each_scheme
@given(BATCHES, RATES, RATES, st.randoms(use_true_random=False))
def test_the_order_of_the_batch_changes_no_advantage(name: str, episodes: Any, gamma: float, lam: float, random: Any) -> None:
    order = random.sample(range(len(episodes)), len(episodes))
    one, other = batch(episodes), batch([episodes[k] for k in order])
    there = rows(other, CREDIT[name](other, gamma, lam))
    same(rows(one, CREDIT[name](one, gamma, lam)), [there[order.index(k)] for k in range(len(order))])


@pytest.mark.parametrize("name", ["step", "bilevel", "token"])
@given(BATCHES)
def test_with_lambda_1_and_no_values_it_is_the_plain_return(name: str, episodes: Any) -> None:
    made = batch([([(reward, 0.0, tokens, gap) for reward, _, tokens, gap in steps], group) for steps, group in episodes])
    got = rows(made, CREDIT[name](made, 1.0, 1.0))
    per_token = name != "step"
    expected = [step_returns([one[0] for one in steps], 1.0) for steps, _ in episodes]
    same(got, [np.repeat(one, [s[2] for s in steps]) if per_token else one for one, (steps, _) in zip(expected, episodes, strict=True)])


@given(BATCHES, RATES)
def test_with_no_values_a_trajectory_has_its_return(episodes: Any, gamma: float) -> None:
    made = batch([([(reward, 0.0, tokens, gap) for reward, _, tokens, gap in steps], group) for steps, group in episodes])
    expected = [np.full(len(steps), step_returns([one[0] for one in steps], gamma)[0]) for steps, _ in episodes]
    same(rows(made, trajectory(made, gamma, 1.0)), expected)


@given(BATCHES, RATES, RATES)
def test_the_batch_says_what_single_episodes_say(episodes: Any, gamma: float, lam: float) -> None:
    made = batch(episodes)
    per_step, per_token = rows(made, step(made, gamma, lam)), rows(made, token(made, gamma, lam))
    for k, (steps, _) in enumerate(episodes):
        rewards, values, counts, _ = map(list, zip(*steps, strict=True))
        np.testing.assert_allclose(per_step[k], step_gae(rewards, values, 0.0, gamma, lam), rtol=1e-9, atol=1e-9)
        # As if each action token were a step of its own, and observations were not there.
        r, v = [], []
        for reward, value, count in zip(rewards, values, counts, strict=True):
            r += [0.0] * (count - 1) + [reward]
            v += [value] * count
        np.testing.assert_allclose(per_token[k], step_gae(r, v, 0.0, gamma, lam), rtol=1e-9, atol=1e-9)


@given(BATCHES, RATES)
def test_bilevel_with_lambda_1_is_step(episodes: Any, gamma: float) -> None:
    made = batch(episodes)
    per_step = rows(made, step(made, gamma, 1.0))
    same(rows(made, bilevel(made, gamma, 1.0)), [np.repeat(one, [s[2] for s in steps]) for one, (steps, _) in zip(per_step, episodes, strict=True)])


# ---------------------------------------------------------------- what other systems got wrong
def test_returns_are_not_reset_at_observations() -> None:
    """A return that starts anew after each tool result leaves the first call without the reward of the last."""
    made = Episodes.of([[0, 0, 1]], tokens=[[2, 2, 2]], gaps=[[9, 50, 50]])
    for name in ("step", "token", "bilevel", "trajectory"):
        assert CREDIT[name](made, 1.0, 1.0)[0, 0].min() == 1.0, name


def test_the_verdict_is_not_dropped_before_an_observation() -> None:
    """verl#7278: the return-to-go of REINFORCE++ kept the outcome reward only after the last observation."""
    made = Episodes.of([[0, 0, 1], [0, 0, 0]], tokens=[[2, 2, 2]] * 2, gaps=[[9, 50, 50]] * 2)
    for name in set(CREDIT) - {"reference"}:
        got = CREDIT[name](made, 1.0, 1.0)
        assert (got[0] > got[1]).all(), name


def test_the_last_step_has_a_weight() -> None:
    """StepTool's released code multiplies the reward of step t by T - t - 1: 0 at the last one."""
    made = Episodes.of([[0, 1], [0, 0]], tokens=[[1, 1]] * 2)
    for name in set(CREDIT) - {"reference"}:
        got = CREDIT[name](made, 0.9, 0.9)
        assert np.ravel(got[0, 1] - got[1, 1])[0] > 0, name
    assert not CREDIT["reference"](made, 0.9, 0.9).any()


def test_longer_tool_results_do_not_enter_the_scale() -> None:
    """A KL or a mean over tool tokens makes the scale depend on them; whitened over steps, it does not."""
    short, long = ([[0, 1], [0, 0]], [[1, 1]] * 2), ([[0, 1], [0, 0]], [[500, 900]] * 2)
    a, b = (normalize(step(Episodes.of(rewards, gaps=gaps), 0.9, 0.9)) for rewards, gaps in (short, long))
    np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- batches
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Episodes.of([]), "one or more episodes"),
        (lambda: Episodes.of([[1.0], []]), r"at least one step, got lengths \[1, 0\]"),
        (lambda: Episodes.of([[1.0]], values=[[1.0, 2.0]]), r"values must have the shapes \[\(1,\)\]"),
        (lambda: Episodes.of([[math.nan]]), "rewards must be finite, got nan"),
        (lambda: Episodes.of([[1.0]], bootstrap=[1.0, 2.0]), "bootstrap must be 1 finite numbers"),
        (lambda: Episodes.of([[1.0]], tokens=[[-1]]), "tokens must not be negative, got -1"),
        (lambda: step(TWO, 1.5, 0.5), r"gamma must be in \[0, 1\], got 1.5"),
        (lambda: token(TWO, 0.5, -1.0), r"lam must be in \[0, 1\], got -1.0"),
    ],
)
def test_mistakes_in_a_batch(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_the_registry() -> None:
    assert list(CREDIT) == ["step", "token", "trajectory", "rloo", "grpo", "process-grpo", "mt-grpo", "gigpo", "gigpo-std", "bilevel", "reference"]
    assert CREDIT["step"] is step
