"""Credit from comparisons within a group: numbers worked out by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steptool_agents.credit.episodes import Episodes
from steptool_agents.credit.groups import gigpo, gigpo_std, grpo, mt_grpo, process_grpo, rloo

# Task 0: returns 1, 2 + 1 = 3, 5. Task 1: an episode alone.
REWARDS = [[1], [2, 1], [0, 0, 5], [7]]
GROUPS = [0, 0, 0, 1]


def test_rloo_by_hand() -> None:
    # 1 - (3 + 5)/2 = -3;   3 - (1 + 5)/2 = 0;   5 - (1 + 3)/2 = 3;   alone: 0
    got = rloo(Episodes.of(REWARDS, groups=GROUPS), 1.0, 1.0)
    np.testing.assert_array_equal(got, [[-3, 0, 0], [0, 0, 0], [3, 3, 3], [0, 0, 0]])


def test_the_discount_acts_per_step() -> None:
    # γ = ½: returns 1, 2 + ½ = 2.5, ¼·5 = 1.25;  1 - 3.75/2 = -.875;  2.5 - 2.25/2 = 1.375;  1.25 - 3.5/2 = -.5
    got = rloo(Episodes.of(REWARDS, groups=GROUPS, tokens=[[9], [9, 9], [9, 9, 9], [9]]), 0.5, 1.0)
    np.testing.assert_array_equal(got[:, 0], [-0.875, 1.375, -0.5, 0])


def test_grpo_by_hand() -> None:
    # mean 3, variance (4 + 0 + 4)/3 = 8/3, std 1.6330;  -2/1.6330 = -1.2247 = -√1.5
    got = grpo(Episodes.of(REWARDS, groups=GROUPS), 1.0, 1.0)
    np.testing.assert_allclose(got, [[-(1.5**0.5), 0, 0], [0, 0, 0], [1.5**0.5] * 3, [0, 0, 0]], atol=1e-12)


def test_equal_returns_say_nothing() -> None:
    assert not grpo(Episodes.of([[0.1], [0.1], [0.1]]), 1.0, 1.0).any()
    for scheme in (gigpo_std, process_grpo, mt_grpo):
        assert not scheme(Episodes.of([[0.1], [0.1], [0.1]]), 1.0, 1.0).any()


def test_process_grpo_by_hand() -> None:
    # Rewards 0, 2, 0, 2, 1 of one task: mean 1, variance 4/5, so each is (r - 1)·√(5/4): -c, c, -c, c, 0 with c = 1.1180.
    # Summed up from each step on: 0, c;  0, c, 0.
    c = 1.25**0.5
    made = Episodes.of([[0, 2], [0, 2, 1], [7]], groups=[0, 0, 1])
    np.testing.assert_allclose(process_grpo(made, 1.0, 1.0), [[0, c, 0], [0, c, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(process_grpo(made, 0.5, 1.0), [[-c / 2, c, 0], [-c / 2, c, 0], [0, 0, 0]], atol=1e-12)


def test_process_grpo_tells_a_useful_step_from_a_useless_one() -> None:
    useful, useless = process_grpo(Episodes.of([[1, 0, 1], [0, 1, 0]]), 1.0, 1.0)[:, 0]
    assert useful > useless
    # DeepSeekMath, 4.1.3: two outputs with process rewards 1, 0 and 0, 1, 1; mean 3/5, std √(6/25) = .4899
    got = process_grpo(Episodes.of([[1, 0], [0, 1, 1]]), 1.0, 1.0)
    np.testing.assert_allclose(got, [[-0.408248, -1.224745, 0], [0.408248, 1.632993, 0.816497]], atol=1e-6)


def test_mt_grpo_by_hand() -> None:
    # Outcomes 3, 1: 1, -1. First turns 0, 2: -1, 1. The second episode has a second turn, which it alone has: 0.
    got = mt_grpo(Episodes.of([[0, 3], [2, 5, 1]]), 1.0, 1.0)
    np.testing.assert_allclose(got, [[0, 1, 0], [0, -1, -1]])
    np.testing.assert_allclose(mt_grpo(Episodes.of([[0, 3], [2, 5, 1]]), 1.0, 1.0, weight=0.5), [[0.5, 1, 0], [-0.5, -1, -1]])


def test_mt_grpo_has_no_outcome_where_the_budget_was_used_up() -> None:
    # Nobody solved the task; the second episode ended on an invalid call that cost .1. The outcomes are 0, 0: no advantage for its first step.
    # Its last step is a turn that it alone has: 0.
    made = Episodes.of([[0, 0], [0, -0.1]], answered=[True, False])
    assert not mt_grpo(made, 1.0, 1.0).any()
    # Three turns at t = 1: -.1, .1 and the third's 0, which is no answer either: mean 0, std √(.02/3).
    made = Episodes.of([[0, -0.1], [0, 0.1], [0, 0], [0, 1]], answered=[False, False, False, True])
    c, outcome = 1.5**0.5, np.array([-1, -1, -1, 3]) / 3**0.5
    np.testing.assert_allclose(mt_grpo(made, 1.0, 1.0), np.stack([outcome, outcome + np.array([-c, c, 0, 0])], axis=1), atol=1e-12)


def test_mt_grpo_as_its_authors_compute_it() -> None:
    """Four episodes of two turns through SiliangZeng/Multi-Turn-RL-Agent, commit 7860de6, which divides by the sample std plus 1e-4."""
    turns, outcomes = np.array([0.2, 0.2, 0.0, 0.6]), np.array([1.0, 0.0, 0.0, 1.0])
    theirs_first, theirs_last = [0.66727449, -1.06447637, -1.85888012, 2.25608199], [0.86587543, -0.86587543, -0.86587543, 0.86587543]
    got = mt_grpo(Episodes.of(list(np.stack([turns, outcomes], axis=1))), 1.0, 1.0)
    to_theirs = [x.std() / (x.std(ddof=1) + 1e-4) for x in (turns, outcomes)]
    np.testing.assert_allclose(got[:, 1] * to_theirs[1], theirs_last, atol=1e-7)
    np.testing.assert_allclose((got[:, 0] - got[:, 1]) * to_theirs[0] + got[:, 1] * to_theirs[1], theirs_first, atol=1e-7)


def test_gigpo_by_hand() -> None:
    # Two episodes of one task, returns 3 and 1, mean 2: 1 and -1.
    # Both begin in state 0, returns-to-go 3 and 1: again 1 and -1. Then one is in state 1 and the other in state 2: alone, 0.
    made = Episodes.of([[1, 2], [1, 0]], states=[[0, 1], [0, 2]])
    np.testing.assert_allclose(gigpo(made, 1.0, 1.0), [[2, 1], [-2, -1]])
    np.testing.assert_allclose(gigpo(made, 1.0, 1.0, weight=0.5), [[1.5, 1], [-1.5, -1]])
    # Returns 6 and 2, mean 4, std 2: without dividing ±2, twice in state 0; divided ±1, twice.
    made = Episodes.of([[2, 4], [2, 0]], states=[[0, 1], [0, 2]])
    np.testing.assert_allclose(gigpo(made, 1.0, 1.0), [[4, 2], [-4, -2]])
    np.testing.assert_allclose(gigpo_std(made, 1.0, 1.0), [[2, 1], [-2, -1]])


def test_gigpo_compares_the_same_state_at_different_steps() -> None:
    # State 5 is met at step 1 of the first episode (return-to-go 2) and at step 0 of the second (0): 1 and -1.
    # Returns 2 and 0 give 1 and -1 between the episodes.
    got = gigpo(Episodes.of([[0, 2], [0, 0]], states=[[4, 5], [5, 6]]), 1.0, 1.0)
    np.testing.assert_allclose(got, [[1, 2], [-2, -1]])


def test_states_of_different_tasks_are_different() -> None:
    got = gigpo(Episodes.of([[1], [0]], states=[[0], [0]], groups=[0, 1]), 1.0, 1.0)
    assert not got.any()


def test_a_fault_is_compared_with_nothing() -> None:
    # The second episode was cut off: the others are as if it were not there. 1 and 5: 1 - 5 = -4.
    made = Episodes.of([[1], [100], [5]], valid=[True, False, True])
    np.testing.assert_array_equal(rloo(made, 1.0, 1.0)[:, 0], [-4, 0, 4])
    np.testing.assert_array_equal(grpo(made, 1.0, 1.0)[:, 0], [-1, 0, 1])
    np.testing.assert_array_equal(gigpo(made, 1.0, 1.0)[:, 0], [-4, 0, 4])  # mean 3, and all in one state
    np.testing.assert_array_equal(gigpo_std(made, 1.0, 1.0)[:, 0], [-2, 0, 2])
    np.testing.assert_array_equal(process_grpo(made, 1.0, 1.0)[:, 0], [-1, 0, 1])
    np.testing.assert_array_equal(mt_grpo(made, 1.0, 1.0)[:, 0], [-1, 0, 1])


RETURNS = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 2)), min_size=1, max_size=12)


@given(RETURNS)
def test_each_group_sums_to_zero(episodes: list[tuple[int, int]]) -> None:
    made = Episodes.of([[reward] for reward, _ in episodes], groups=[group for _, group in episodes])
    for scheme in (rloo, grpo, process_grpo, mt_grpo, gigpo, gigpo_std):
        got = scheme(made, 1.0, 1.0)[:, 0]
        for group in range(3):
            assert abs(got[made.groups == group].sum()) < 1e-9


@given(RETURNS, st.integers(-50, 50))
def test_a_reward_for_all_changes_nothing(episodes: list[tuple[int, int]], bonus: int) -> None:
    groups = [group for _, group in episodes]
    for scheme in (rloo, grpo, process_grpo, mt_grpo, gigpo, gigpo_std):
        one, other = (scheme(Episodes.of([[reward + more] for reward, _ in episodes], groups=groups), 1.0, 1.0) for more in (0, bonus))
        np.testing.assert_allclose(one, other, atol=1e-9)
