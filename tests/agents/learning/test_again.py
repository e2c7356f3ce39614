"""What was good in the episodes of the last updates, imitated again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lms import language_model, passes, trajectory

from steptool_agents.config import Config, LearningConfig
from steptool_agents.learning.again import REMEMBERED, Again, worth_imitating
from steptool_agents.learning.imitation import imitate
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.trajectory import Trajectory
from steptool_env.types import Outcome


def earned(one: Trajectory, rewards: Sequence[float], *, solved: float = 0.0, masked: Sequence[int] = ()) -> Trajectory:
    """Return an episode with these rewards and this verdict."""
    steps = [replace(step, parts={"r": reward}, masked=place in masked) for place, (step, reward) in enumerate(zip(one.steps, rewards, strict=True))]
    end = steps[-1].transition._replace(terminated=True, truncated=False, outcome=Outcome(solved))
    return Trajectory((*steps[:-1], replace(steps[-1], transition=end)))


def episodes(count: int, solved: float = 1.0) -> list[Trajectory]:
    return [earned(trajectory([((5, k), (6, 7)), ((8,), (9, 10 + k))]), (0.25, 1.0 * solved), solved=solved) for k in range(count)]


def settings(**changes: Any) -> LearningConfig:
    return Config.of(**changes).learning


def test_which_steps_are_worth_imitating() -> None:
    """By hand: a useful call, a failed one, a useless one, one that a fault masked, one without tokens, and the answer."""
    tokens = [((1,), (2, 3))] * 4 + [((1,), ())] + [((1,), (4,))]
    one = earned(trajectory(tokens), (0.1, -0.1, 0.0, 0.1, 0.1, 1.0), solved=1.0, masked=[3])
    assert worth_imitating(one, "steps").tolist() == [1, 0, 0, 0, 0, 1]
    assert worth_imitating(one, "episodes").tolist() == [1, 1, 1, 0, 0, 1]
    failed = earned(trajectory(tokens), (0.1, -0.1, 0.0, 0.1, 0.1, 0.0), solved=0.0)
    assert worth_imitating(failed, "steps").tolist() == [1, 0, 0, 1, 0, 0], "what was good in an episode that failed"
    assert not worth_imitating(failed, "episodes").any()


def test_the_loss_is_the_mean_over_the_tokens_that_count() -> None:
    lm = language_model()
    one, two = (trajectory([((5,), (6, 7)), ((8,), (9,))]), trajectory([((5, 11), (12,)), ((8,), (9, 13, 14))]))
    each = passes(lm).measure([one, two], lambda encoded: encoded.by_trajectory(encoded.logprobs()))
    expected = -(each[0][:2].sum() + 0.5 * each[1][1:].sum()) / (2 + 0.5 * 3)
    still = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    assert imitate(passes(lm), still, [one, two], [np.array([1.0, 0.0]), np.array([0.0, 0.5])]) == pytest.approx(expected, rel=1e-5)
    assert imitate(passes(lm), still, [one, two], [np.ones(2), np.ones(2)]) == pytest.approx(imitate(passes(lm), still, [one, two]), rel=1e-5)


def test_it_becomes_likelier_and_nothing_else_is_pushed() -> None:
    lm = language_model()
    good, bad = trajectory([((5,), (6, 7)), ((8,), (9, 10))]), trajectory([((5,), (6, 7)), ((8,), (11, 12))])
    one, two = earned(good, (0.25, 1.0), solved=1.0), earned(bad, (0.25, -0.1))

    def likelihoods() -> list[np.ndarray]:
        return passes(lm).measure([one, two], lambda encoded: encoded.by_trajectory(encoded.logprobs()))

    before = likelihoods()
    again = Again(passes(lm), settings(minibatches=2), {})
    rng, optimizer = np.random.default_rng(0), torch.optim.SGD(lm.trainable().values(), lr=0.05)
    assert again(optimizer, [one, two], rng) == {}, "nothing is remembered yet"
    for _ in range(10):
        assert again(optimizer, [one, two], rng)["imitation_loss"] > 0.0
    after = likelihoods()
    assert (after[0] > before[0]).all() and (after[1][:2] > before[1][:2]).all()
    assert after[1][2:].sum() < before[1][2:].sum()


def test_only_good_episodes_of_the_last_updates_are_remembered() -> None:
    lm, state = language_model(), dict[str, Any]()
    again = Again(passes(lm), settings(memory=2, imitate="episodes"), state)
    optimizer = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    for count in (3, 1, 2):
        again(optimizer, [*episodes(count), *episodes(2, solved=0.0)], np.random.default_rng(0))
    assert [text.count("\n") for text in state[REMEMBERED]] == [1, 2]


def test_nothing_is_remembered_where_nothing_is_imitated() -> None:
    state = dict[str, Any]()
    lm = language_model()
    again = Again(passes(lm), settings(imitate="none"), state)
    for _ in range(2):
        assert again(torch.optim.SGD(lm.trainable().values(), lr=1.0), episodes(2), np.random.default_rng(0)) == {}
    assert not state


def test_an_update_in_which_nothing_was_good_is_remembered_as_empty() -> None:
    lm, state = language_model(), dict[str, Any]()
    again = Again(passes(lm), settings(imitate="episodes"), state)
    optimizer = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    for _ in range(2):
        assert again(optimizer, episodes(2, solved=0.0), np.random.default_rng(0)) == {}
    assert state[REMEMBERED] == ["", ""]


def test_a_run_that_goes_on_imitates_the_same() -> None:
    def run(parts: Sequence[int]) -> tuple[LanguageModel, dict[str, Any]]:
        lm, state, rng = language_model(), dict[str, Any](), np.random.default_rng(0)
        optimizer = torch.optim.SGD(lm.trainable().values(), lr=0.05)
        for part in parts:
            again = Again(passes(lm), settings(memory=2, minibatches=2), state)  # as after a kill: only the state is left
            for update in range(part):
                again(optimizer, episodes(3 + update), rng)
        return lm, state

    (whole, one), (resumed, other) = run([2]), run([1])
    assert one[REMEMBERED][:1] == other[REMEMBERED]
    rng = np.random.default_rng(0)
    Again(passes(resumed), settings(memory=2, minibatches=2), other)(torch.optim.SGD(resumed.trainable().values(), lr=0.05), episodes(4), rng)
    assert one == other
    for name, weight in whole.trainable().items():
        assert torch.equal(weight, resumed.trainable()[name])
