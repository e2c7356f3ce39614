"""The statistics of benchmarks/contribution.py, by hand, and the cost that benchmarks/shaper_speed.py states."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from benchmark_files import load
from hypothesis import given
from hypothesis import strategies as st

contribution = load("contribution")


def test_ranks_by_hand() -> None:
    assert contribution.ranks(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


@pytest.mark.parametrize(
    ("scores", "positive", "area"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 0.0),
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 1, 0, 1], 0.875),  # of 4 pairs, 3 won and 1 tied
        ([1, 2, 3, 4], [0, 1, 0, 1], 0.75),
    ],
)
def test_auc_by_hand(scores: list[float], positive: list[int], area: float) -> None:
    assert contribution.auc(np.array(scores, dtype=float), np.array(positive, dtype=bool)) == area


def test_spearman_by_hand() -> None:
    up = np.array([1.0, 2.0, 3.0, 4.0])
    assert contribution.spearman(up, up**3) == pytest.approx(1.0)
    assert contribution.spearman(up, -up) == pytest.approx(-1.0)
    # differences of the ranks 0, 1, 1, 0: ρ = 1 − 6·2 / (4·15)
    assert contribution.spearman(up, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    assert np.isnan(contribution.spearman(up, np.ones(4)))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs(pairs: list[tuple[int, bool]]) -> None:
    good, bad = [s for s, p in pairs if p], [s for s, p in pairs if not p]
    area = contribution.auc(np.array([s for s, _ in pairs], dtype=float), np.array([p for _, p in pairs]))
    if good and bad:
        assert area == pytest.approx(sum((g > b) + (g == b) / 2 for g in good for b in bad) / (len(good) * len(bad)))
    else:
        assert np.isnan(area)


def test_missing_scores_are_counted_and_left_out() -> None:
    truth = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    found = contribution.measure([np.array([2.0, 1.0]), np.array([np.nan, 1.0])], truth, resamples=3)
    assert (found["episodes"], found["missing"], found["auc"]) == (1, 1, 1.0)
    assert contribution.measure([np.array([np.nan, 1.0])], truth[:1]) == {"episodes": 0, "missing": 1}


def test_the_benchmark_runs_and_a_perfect_signal_would_score_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(contribution, "ROLLOUTS", (1,))
    signals = contribution.signals

    def with_the_truth(*arguments):  # type: ignore[no-untyped-def]
        truth = {"truth": lambda level: lambda episodes: [[one.progress - one.progress_before for one in episode] for episode in episodes]}
        return signals(*arguments) | truth

    monkeypatch.setattr(contribution, "signals", with_the_truth)
    monkeypatch.setattr(sys, "argv", ["contribution.py", "--episodes", "4", "--json"])
    contribution.main()
    result = json.loads(capsys.readouterr().out)
    rows = {row["signal"]: row for row in result["results"]}
    assert (rows["truth"]["auc"], rows["truth"]["spearman"]) == (1.0, 1.0)
    assert set(rows) >= {"paper-rules", "hindsight", "monte-carlo, 1"}
    assert rows["hindsight"]["auc"] > rows["monte-carlo, 1"]["auc"]


def test_a_judge_is_measured_if_there_is_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    from judging import grade, serving, status

    episodes = contribution.play(1, 4, seed=0)
    with serving(grade(1, 3), grade(1, 3), grade(1, 3), status(400)) as server:
        monkeypatch.setattr("steptool_agents.servers.client.ChatClient.ask_all", one_after_the_other)
        scores = contribution.signals(server.endpoint, "m", None)["judge"](1)(episodes)
    calls = [sum(not contribution.is_answer(one) for one in episode) for episode in episodes]
    assert [sorted(set(one)) for one in scores[:1]] == [[0.0, 3.0] if calls[0] < len(episodes[0]) else [3.0]]
    assert all(np.isnan(one).any() for one in scores[1:])


def one_after_the_other(self, requests, read):  # type: ignore[no-untyped-def]
    """Ask in order, so that the test knows which request meets which behavior."""
    return [self._ask(*request, lambda message, place=place: read(place, message)) for place, request in enumerate(requests)]


@pytest.mark.slow
def test_the_default_shaper_costs_less_than_five_microseconds_a_step_however_long_the_episode() -> None:
    speed = load("shaper_speed")
    assert min(speed.step_seconds("steptool", 5, repeats=3) for _ in range(3)) < 5e-6
    assert min(speed.step_seconds("steptool", 200, repeats=3) for _ in range(3)) < 5e-6
