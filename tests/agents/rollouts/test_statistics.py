"""Intervals and pass rates: numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptool_agents.rollouts.statistics import Interval, bootstrap, paired, paired_shares, pass_all, pass_any
from steptool_env.errors import InvalidArgument


def test_the_width_of_an_interval() -> None:
    # 100 tasks, half solved: 1.96·sqrt(.25/100) = .098 to either side.
    found = bootstrap([0.0, 1.0] * 50)
    assert (found.mean, found.low, found.high) == (0.5, pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))


def test_seeds_widen_the_interval() -> None:
    # One seed solves everything, one nothing: a resample of two seeds has mean 0, ½ or 1, with chance ¼, ½, ¼.
    found = bootstrap([[1.0] * 50, [0.0] * 50])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    assert bootstrap([[0.0, 1.0] * 25] * 2).high < 0.7  # seeds that agree


def test_pairs_cancel_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = (rng.random(200) < 0.5).astype(float)
    better = hard.copy()
    better[:20] = 1.0
    found = paired(better, hard)
    assert found.mean == pytest.approx((better - hard).mean())
    assert found.low > 0  # while the two intervals by themselves overlap
    assert bootstrap(better).low < bootstrap(hard).high


def test_a_difference_that_is_always_the_same_has_no_width() -> None:
    found = paired([0.5, 1.0, 0.75], [0.25, 0.75, 0.5])
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=30), st.integers(0, 3))
def test_the_interval_holds_the_mean_and_is_the_same_again(values: list[float], seed: int) -> None:
    found = bootstrap(values, resamples=400, seed=seed)
    assert -1e-9 <= found.low - 1e-9 <= found.mean <= found.high + 1e-9 <= 1 + 2e-9
    assert found == bootstrap(values, resamples=400, seed=seed)


def test_shares_by_hand() -> None:
    # Seed 0: 3 of 4 calls against 1 of 4; seed 1: 2 of 4 against 4 of 8. The differences ½ and 0; a mean over tasks would be another.
    found = paired_shares(([[3, 0], [1, 1]], [[3, 1], [1, 3]]), ([[1, 0], [0, 4]], [[2, 2], [4, 4]]))
    assert found.mean == pytest.approx(0.25)
    assert found.low <= 0.25 <= found.high
    # All tasks alike: resampling tasks changes nothing, and one seed leaves nothing else to resample.
    assert paired_shares(([1, 1, 1], [2, 2, 2]), ([1, 1, 1], [4, 4, 4])) == Interval(0.25, 0.25, 0.25)
    # With one call per task a share is a mean over tasks, and the intervals agree up to chance.
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 3, 80)) < [[[0.8]], [[0.4]]]
    by_task, by_call = paired(one, other), paired_shares((one, np.ones((3, 80))), (other, np.ones((3, 80))))
    assert [by_call.mean, by_call.low, by_call.high] == pytest.approx([by_task.mean, by_task.low, by_task.high], abs=0.02)


def test_pass_rates_by_hand() -> None:
    # 4 plays, 2 solved. Of the 6 pairs, 1 has none solved and 1 has both: 5/6 and 1/6.
    assert pass_any(4, 2, 2) == pytest.approx(5 / 6)
    assert pass_all(4, 2, 2) == pytest.approx(1 / 6)
    assert (pass_any(4, 2, 1), pass_all(4, 2, 1)) == (0.5, 0.5)
    assert (pass_any(4, 1, 4), pass_all(4, 3, 4)) == (1.0, 0.0)


SHARES = [lambda: paired_shares(([1, 1], [1, 1]), ([1], [1])), lambda: paired_shares(([[1], [0]], [[1], [0]]), ([[1], [1]], [[1], [1]]))]


@pytest.mark.parametrize("call", [lambda: pass_any(4, 5, 1), lambda: pass_all(4, 1, 5), lambda: bootstrap([]), lambda: paired([1.0], [1.0, 0.0]), *SHARES])
def test_mistakes(call: object) -> None:
    with pytest.raises(InvalidArgument, match=r"got"):
        call()  # type: ignore[operator]
