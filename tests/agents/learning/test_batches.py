"""From trajectories to tensors: worked out by hand, and what holds for all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lms import trajectory

from steptool_agents.learning.batches import collate, length, micro_batches


def test_two_trajectories_by_hand() -> None:
    first = trajectory([((5, 6, 7), (8, 9)), ((10,), (11,))], logprobs=[(-1.0, -2.0), (-3.0,)])
    second = trajectory([((12,), (13, 14))], logprobs=[(-4.0, -5.0)])
    batch = collate([first, second])
    # column          0  1  2  3  4   5   6
    # row 0: context  5  6  7        10        action        8  9     11
    # row 1: context 12                        action    13 14
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 0, 0, 0, 0]]
    # What predicts a token is the column before it: 8 at 2, 9 at 3, 11 at 5; 13 at 0, 14 at 1.
    assert batch.token_at.tolist() == [2, 3, 5, 7 + 0, 7 + 1]
    assert batch.targets.tolist() == [8, 9, 11, 13, 14]
    assert batch.old_logprobs.tolist() == [-1.0, -2.0, -3.0, -4.0, -5.0]
    assert batch.token_step.tolist() == [0, 0, 1, 2, 2]
    # A state ends with its last context token: 7 at 2, 10 at 5, 12 at 0.
    assert batch.state_at.tolist() == [2, 5, 7 + 0]
    assert batch.action_at.tolist() == [4, 6, 7 + 2]
    assert (batch.opening_at.tolist(), batch.opening_of.tolist(), batch.opening.tolist()) == ([0, 1, 2, 7], [0, 0, 0, 1], [0, 0, 1])
    assert batch.weights.tolist() == [1.0, 1.0, 1.0]
    assert (batch.steps, batch.actions, batch.tokens) == ((2, 1), (3, 2), 10)


def test_nothing_is_learnt_from_faults_and_from_steps_without_tokens() -> None:
    cut = trajectory([((5,), (6,)), ((7,), (8,))], masked_end=True)
    full = trajectory([((5,), (6,)), ((), ()), ((), ())])
    batch = collate([cut, full])
    assert batch.weights.tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert batch.token_step.tolist() == [0, 1, 2]
    assert batch.ids.tolist() == [[5, 6, 7, 8], [5, 6, 0, 0]]


def test_a_batch_in_which_nobody_spoke() -> None:
    batch = collate([trajectory([((), ())]), trajectory([((5,), (6,))])])
    assert batch.ids.tolist() == [[0, 0], [5, 6]]
    assert batch.weights.tolist() == [0.0, 1.0]
    assert batch.targets.tolist() == [6]


sizes = st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3), min_size=1, max_size=9)


@given(sizes, st.integers(1, 80))
def test_micro_batches_hold_everything_once_and_keep_to_the_budget(sizes: list[list[tuple[int, int]]], budget: int) -> None:
    trajectories = [trajectory([((1,) * context, (2,) * action) for context, action in steps]) for steps in sizes]
    groups = list(micro_batches([(1, length(one)) for one in trajectories], budget))
    assert sorted(index for group in groups for index in group) == list(range(len(trajectories)))
    for group in groups:
        batch = collate([trajectories[index] for index in group])
        assert batch.ids.numel() <= budget or len(group) == 1
        assert batch.ids.shape[1] == max(length(trajectories[index]) for index in group)


@given(sizes)
def test_each_action_token_stands_behind_the_state_that_predicts_it(sizes: list[list[tuple[int, int]]]) -> None:
    fresh = iter(range(1, 1000))
    trajectories = [trajectory([([next(fresh) for _ in range(c)], [next(fresh) for _ in range(a)]) for c, a in steps]) for steps in sizes]
    batch = collate(trajectories)
    ids = batch.ids.flatten()
    assert ids[batch.token_at + 1].tolist() == batch.targets.tolist()
    assert ids[batch.state_at].tolist() == [step.generation.prompt_ids[-1] for one in trajectories for step in one.steps]


def test_what_belongs_together_stays_together() -> None:
    # Two sequences of 10 and two of 4 and one of 3: with 28 tokens, 2 × 10 come alone, then 3 × 4.
    assert list(micro_batches([(2, 4), (2, 10), (1, 3)], 28)) == [[1], [0, 2]]
    assert list(micro_batches([(2, 4), (2, 10), (1, 3)], 1)) == [[1], [0], [2]], "a unit that is larger than the budget comes alone"
