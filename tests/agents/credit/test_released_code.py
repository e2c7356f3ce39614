"""The released code's credit, reproduced: by hand, against a plain walk over tokens, and on the released example rows."""

from __future__ import annotations

import ast
import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import RELEASED

from steptool_agents.credit.episodes import Episodes
from steptool_agents.credit.released_code import placed_rewards, reference

ROWS = [
    # (prompt pieces, responses, rewards), in the form of the released files; a stand-in where those are absent
    (["System: tools\nUser: find it", "Function: {'id': 7}"], ["Action: search", "Action: Finish"], [1.0, 0.0]),
    (["System: tools\nUser: buy it", "Function: {'error': 'no'}", "Function: done"], ["Action: buy", "Action: buy now", "Action: Finish"], [0.5, 0.8, 1.0]),
]


def walk(pieces: list[int], actions: list[int], rewards: list[float], values: list[list[float]], gamma: float, lam: float) -> tuple[list[float], list[float]]:
    """Do it token by token over the whole sequence: mask runs from the right for the rewards, then GAE over all positions."""
    mask: list[bool] = []
    value: list[float] = []
    for gap, count, said in zip(pieces, actions, values, strict=True):
        mask += [False] * gap + [True] * count
        value += [0.0] * gap + said
    place = [0.0] * len(mask)
    run, inside = len(rewards) - 1, False
    for j in range(len(mask) - 1, -1, -1):
        if mask[j] and not inside:
            place[j] += rewards[run] * (len(rewards) - run - 1)
            run -= 1
        inside = mask[j]
    advantages = [0.0] * len(mask)
    last = 0.0
    for j in range(len(mask) - 1, -1, -1):
        following = value[j + 1] if j + 1 < len(mask) else 0.0
        last = place[j] + gamma * following - value[j] + gamma * lam * last
        advantages[j] = last
    return place, [a for a, acts in zip(advantages, mask, strict=True) if acts]


# ---------------------------------------------------------------- by hand
@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([0, 0, 1], [0, 0, 0]),  # the verdict alone: nothing is left
        ([1, 1, 1], [2, 1, 0]),
        ([1, 1, 0], [2, 1, 0]),  # solved or not, it is the same
        ([0.9, 0.8, 1.0], [1.8, 0.8, 0]),
        ([1.0], [0]),
    ],
)
def test_placed_rewards_by_hand(rewards: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(placed_rewards(Episodes.of([rewards, [1, 1, 1, 1]]))[0, : len(rewards)], expected)


def test_advantages_by_hand() -> None:
    # call ×1, observation ×2, call ×1;  V = 1 and 2;  rewards 3, 5 -> placed 3·1, 5·0;  γ = λ = ½, γλ = ¼
    # last call:  δ = 0 - 2 = -2,                      A = -2
    # obs 2:      δ = ½·2 = 1,                         A = 1 + ¼·(-2)  = .5
    # obs 1:      δ = 0,                               A = ¼·.5        = .125
    # first call: δ = 3 + ½·0 - 1 = 2,                 A = 2 + ¼·.125  = 2.03125
    got = reference(Episodes.of([[3, 5]], values=[[1, 2]], gaps=[[4, 2]]), 0.5, 0.5)
    np.testing.assert_array_equal(got, [[[2.03125], [-2.0]]])


def test_a_step_before_an_observation_is_treated_as_the_last() -> None:
    # V = .7, no reward: the value of what comes next is 0. Over steps it would be .99·.7 - .7 = -.007 (test_credit).
    got = reference(Episodes.of([[0, 0]], values=[[0.7, 0.7]], gaps=[[0, 400]]), 0.99, 0.95)
    assert got[0, 0, 0] == pytest.approx(-0.7, abs=1e-9)


def test_what_crosses_an_observation() -> None:
    # A reward at the second of three steps (the last has weight 0, this one 1) reaches the first through L tokens: (γλ)^(L+1).
    rate = 0.99 * 0.95
    for size in (1, 20, 200):
        got = reference(Episodes.of([[0, 1, 0]], gaps=[[0, size, 5]]), 0.99, 0.95)
        assert got[0, 0, 0] == pytest.approx(rate ** (size + 1), rel=1e-9)
    assert rate**200 == pytest.approx(4.7e-6, rel=0.02)


def test_without_observations_and_with_one_step_nothing_is_wrong_but_the_weight() -> None:
    assert not reference(Episodes.of([[1.0]]), 0.99, 0.95).any()


EPISODE = st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=4)


@given(st.lists(EPISODE, min_size=1, max_size=3), st.floats(0.1, 1), st.floats(0.1, 1))
def test_it_is_the_walk_over_tokens(episodes: list[list[tuple[float, float, int, int]]], gamma: float, lam: float) -> None:
    # Without an observation between them two actions are one run of the mask, and the walk cannot tell them apart.
    columns = [[list(column) for column in zip(*[(r, v, n, max(g, 1)) for r, v, n, g in one], strict=True)] for one in episodes]
    made = Episodes.of([one[0] for one in columns], values=[one[1] for one in columns], tokens=[one[2] for one in columns], gaps=[one[3] for one in columns])
    got = reference(made, gamma, lam)
    for row, (rewards, values, counts, gaps) in enumerate(columns):
        _, expected = walk(gaps, counts, rewards, [[value] * count for value, count in zip(values, counts, strict=True)], gamma, lam)
        np.testing.assert_allclose(got[row][made.token_mask[row]], expected, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- the released rows
def check(rows: list[tuple[list[str], list[str], list[float]]]) -> tuple[float, float]:
    """Compare placement and advantages on rows; a token is a word. Return the reward before and after placement."""
    paid = applied = 0.0
    for prompts, responses, rewards in rows:
        gaps, counts = [len(one.split()) for one in prompts], [len(one.split()) for one in responses]
        values = [0.1 * (t + 1) for t in range(len(rewards))]
        made = Episodes.of([rewards], values=[values], tokens=[counts], gaps=[gaps])
        place, expected = walk(gaps, counts, rewards, [[value] * count for value, count in zip(values, counts, strict=True)], 0.99, 0.95)
        ends = np.cumsum([gap + count for gap, count in zip(gaps, counts, strict=True)]) - 1
        np.testing.assert_allclose(placed_rewards(made)[0], [place[end] for end in ends])
        assert sum(place) == pytest.approx(placed_rewards(made).sum())
        np.testing.assert_allclose(reference(made, 0.99, 0.95)[made.token_mask], expected, rtol=1e-9)
        paid, applied = paid + sum(rewards), applied + sum(place)
    return paid, applied


def test_rows_of_our_own() -> None:
    # [1, 0] -> 1·1 + 0 = 1;   [.5, .8, 1] -> .5·2 + .8·1 + 0 = 1.8
    assert check(ROWS) == (pytest.approx(1.0 + 2.3), pytest.approx(2.8))


@pytest.mark.skipif(not RELEASED.is_dir(), reason=f"the released example data is not at {RELEASED}")
@pytest.mark.parametrize(
    ("model", "paid", "dropped", "applied"),
    [("toolllama", 21.8, 6.0, 25.9), ("qwen2", 26.1, 7.5, 35.5), ("llama3-1", 17.2, 4.0, 22.3)],
)
def test_the_released_rows(model: str, paid: float, dropped: float, applied: float) -> None:
    """All 30 rows: what the annotation paid, what of it the last steps lose, and what the code pays instead."""
    csv.field_size_limit(10**7)
    with open(RELEASED / f"step_grained_{model}.csv", encoding="utf-8", newline="") as file:
        rows = [tuple(ast.literal_eval(row[name]) for name in ("prompt", "response", "reward")) for row in csv.DictReader(file, delimiter="\t")]
    assert len(rows) == 10
    assert sum(rewards[-1] for *_, rewards in rows) == pytest.approx(dropped, abs=0.05)
    assert check(rows) == (pytest.approx(paid, abs=0.05), pytest.approx(applied, abs=0.05))  # type: ignore[arg-type]
