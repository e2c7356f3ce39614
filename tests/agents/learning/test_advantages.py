"""Trajectories become episodes; each scheme reaches the tokens that it is meant for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lms import trajectory

from steptool_agents.credit.schemes import CREDIT
from steptool_agents.learning.advantages import as_episodes, assign_credit, states
from steptool_agents.learning.batches import collate
from steptool_agents.trajectory import Trajectory
from steptool_env.errors import UnknownName
from steptool_env.types import ToolCall, ToolResult

MADE = [
    trajectory([((1, 1), (2, 3)), ((4,), (5,))], [1.0, 2.0], values=[0.5, 1.0], task="a"),
    trajectory([((1,), (2, 3, 4))], [-1.0], values=[0.5], task="b"),
    trajectory([((1,), (2,)), ((4, 4, 4), (5,))], [1.0, 0.0], masked_end=True, values=[0.0, 0.25], task="a"),
]


def test_what_credit_sees() -> None:
    seen = as_episodes(MADE)
    assert seen.rewards.tolist() == [[1, 2], [-1, 0], [1, 0]]
    assert seen.values.tolist() == [[0.5, 1], [0.5, 0], [0, 0.25]]
    assert seen.bootstrap.tolist() == [0, 0, 0.25]
    assert seen.tokens.tolist() == [[2, 1], [3, 0], [1, 1]]
    assert seen.gaps.tolist() == [[2, 1], [1, 0], [1, 3]]
    assert seen.groups.tolist() == [0, 1, 0]
    assert seen.valid.tolist() == [True, True, False]
    assert seen.answered.tolist() == [one.terminated for one in MADE]


@pytest.mark.parametrize("name", sorted(CREDIT))
def test_each_scheme_fits_the_tokens(name: str) -> None:
    data = assign_credit(MADE, 1.0, 0.9, name)
    batch = collate([data.trajectories[index] for index in (2, 0)])
    got = torch.from_numpy(np.concatenate([data.token_advantages(index) for index in (2, 0)]))
    assert got.shape == batch.targets.shape
    assert data.per_token == (name in ("token", "bilevel", "reference"))
    live = batch.weights[batch.token_step] > 0
    assert not got[~live].any()  # the step whose tool was down
    assert [one.tolist() for one in data.returns] == [one.tolist() for one in assign_credit(MADE, 1.0, 0.9).returns]


@pytest.mark.parametrize("name", sorted(set(CREDIT) - {"rloo", "grpo", "process-grpo", "mt-grpo", "gigpo", "gigpo-std"}))  # in MADE, groups agree
def test_negative_advantages_can_count_less(name: str) -> None:
    whole, less = (np.concatenate(assign_credit(MADE, 1.0, 0.9, name, negative).advantages) for negative in (1.0, 0.25))
    assert (whole < 0).any() and (whole > 0).any()
    np.testing.assert_allclose(less, np.where(whole < 0, 0.25 * whole, whole))


def test_tokens_get_the_advantage_of_their_step() -> None:
    data = assign_credit(MADE, 1.0, 1.0)
    np.testing.assert_array_equal(data.token_advantages(0), np.repeat(data.advantages[0], [2, 1]))
    np.testing.assert_array_equal(data.token_advantages(1), np.repeat(data.advantages[1], 3))


def test_whitening_counts_what_the_scheme_gives() -> None:
    steps, tokens = assign_credit(MADE, 1.0, 1.0), assign_credit(MADE, 1.0, 1.0, "token")
    for data, sizes in ((steps, [2, 1, 2]), (tokens, [3, 3, 2])):
        assert [len(one) for one in data.advantages] == sizes
        counted = np.concatenate(data.advantages)[:-1]  # the last one is masked
        assert counted.mean() == pytest.approx(0, abs=1e-12)
        assert counted.std() == pytest.approx(1)


def test_groups_keep_their_own_scale() -> None:
    made = [trajectory([((1,), (2,))], [reward], task="a") for reward in (0.0, 0.0, 0.0, 1.0)]
    got = np.concatenate(assign_credit(made, 1.0, 1.0, "grpo").advantages)
    np.testing.assert_allclose(got, np.array([-1, -1, -1, 3]) / 3**0.5)  # mean ¼, variance 3/16


@pytest.mark.parametrize("name", ["rloo", "grpo", "process-grpo", "gigpo", "gigpo-std", "mt-grpo"])
def test_a_reward_that_is_missing_is_no_zero_to_compare_with(name: str) -> None:
    """Four equal episodes, one of them without the reward of its middle step: the others are compared as if there were three."""
    made = [trajectory([((1,), (2,))] * 3, [0.5, 1.0, 0.25], task="a") for _ in range(4)]
    first, middle, last = made[0].steps
    made[0] = Trajectory((first, replace(middle, parts={"all": 0.0}, masked=True), last))
    four, three = assign_credit(made, 1.0, 1.0, name), assign_credit(made[1:], 1.0, 1.0, name)
    assert four.advantages[0].tolist() == [0.0] * 3
    np.testing.assert_allclose(four.advantages[1:], three.advantages)
    assert name in ("process-grpo", "gigpo", "gigpo-std") or not np.any(three.advantages), "they are equal; only these compare steps with one another"


def test_an_episode_that_was_cut_off_does_not_stretch_the_scale_of_the_others() -> None:
    made = [trajectory([((1,), (2,))], [reward], task="a") for reward in (0.0, 0.0, 1.0, 1.0)]
    cut = [trajectory([((1,), (2,)), ((3,), (4,))], [0.0, 0.0], task="b", masked_end=True)] * 6
    alone, among = (np.concatenate(assign_credit(some, 1.0, 1.0, "rloo").advantages) for some in (made, made + cut))
    np.testing.assert_allclose(among[:4], alone)
    assert not among[4:].any()


def test_a_group_that_agrees_is_not_pushed() -> None:
    """A baseline within the group has a zero of its own: whitening would shift it, by .065 standard deviations on a real batch."""
    agreed = [trajectory([((1,), (2,))], [1.0], task="a")] * 2
    made = [*agreed, *(trajectory([((1,), (2,))], [reward], task="b") for reward in (0.0, 0.0, 0.0, 0.0, 4.0))]
    got = np.concatenate(assign_credit(made, 1.0, 1.0, "rloo").advantages)
    # -1 four times and 4: mean 0, variance 20/7
    np.testing.assert_allclose(got, np.array([0, 0, -1, -1, -1, -1, 4]) / (20 / 7) ** 0.5)
    longer = [*agreed, trajectory([((1,), (2,))] * 2, [0.0, 0.0], task="b"), trajectory([((1,), (2,))], [2.0], task="b")]
    # -2, -2 and 2 over steps, with 0, 0: mean -.4, variance 12/5 - .16
    got = np.concatenate(assign_credit(longer, 1.0, 1.0, "rloo").advantages)
    np.testing.assert_allclose(got, np.array([0, 0, -2, -2, 2]) / 2.24**0.5)


def said(*calls: tuple[str, str, str]) -> Trajectory:
    """Return an episode from (argument, result, error) of its calls."""
    made = trajectory([((1,), (2,))] * len(calls))
    steps = [
        replace(step, transition=step.transition._replace(action=ToolCall("look", {"at": argument}), result=ToolResult(result, error)))
        for step, (argument, result, error) in zip(made.steps, calls, strict=True)
    ]
    return replace(made, steps=tuple(steps))


def test_states_are_what_is_known() -> None:
    one = states(said(("a", "1", ""), ("b", "2", ""), ("c", "3", "")))
    other = states(said(("b", "2", ""), ("x", "no", "tool_failed"), ("b", "2", ""), ("a", "1", ""), ("c", "3", "")))
    assert one[0] == other[0] == ""
    assert other[1] == other[2] == other[3] != one[1]  # a failed and a repeated call tell nothing
    assert one[2] == other[4]  # a and b are known, in whatever order
    assert len(set(one)) == 3


def test_a_scheme_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match=r"unknown credit scheme 'stp'. Did you mean 'step'\?"):
        assign_credit(MADE, 1.0, 1.0, "stp")
