"""Interquartile means, probabilities of improvement and profiles: against values worked out by hand, and those of rliable 1.2."""

from __future__ import annotations

import numpy as np
import pytest

from steptool_agents.experiments.aggregates import THRESHOLDS, aggregated, interquartile_mean, over_seeds, probability_of_improvement
from steptool_env.errors import InvalidArgument


def test_by_hand() -> None:
    mine, theirs = np.array([[0.9, 0.5], [0.7, 0.5]]), np.array([[0.6, 0.5], [0.8, 0.1]])
    rows = {row["method"]: row for row in aggregated({"StepTool": mine, "SFT": theirs}, "StepTool")}
    # The middle half of .5, .5, .7, .9 and of .1, .5, .6, .8.
    assert (rows["StepTool"]["iqm"], rows["SFT"]["iqm"]) == (pytest.approx(0.6), pytest.approx(0.55))
    # Depth 1: .9 > .6, .9 > .8, .7 > .6, .7 < .8: three of four. Depth 2: ½, 1, ½, 1: three of four.
    assert rows["SFT"]["improvement"] == pytest.approx(0.75)
    assert rows["SFT"]["improvement_low"] <= 0.75 <= rows["SFT"]["improvement_high"]
    assert rows["StepTool"]["improvement"] is None
    assert THRESHOLDS[5] == 0.5
    assert [share for share, *_ in rows["StepTool"]["profile"]][4:7] == [1.0, 0.5, 0.5], "above .4, .5 and .6"
    assert all(low <= share <= high for share, low, high in rows["SFT"]["profile"])
    assert aggregated({"SFT": theirs}, "StepTool")[0]["improvement"] is None, "there is no reference"


def test_equal_scores_say_nothing_and_repeated_calls_the_same() -> None:
    rng = np.random.default_rng(0)
    scores = {"StepTool": rng.random((4, 3)), "other": rng.random((4, 3))}
    assert aggregated(scores, "StepTool") == aggregated(scores, "StepTool")
    same = aggregated({"StepTool": scores["other"], "other": scores["other"]}, "StepTool")
    assert same[1]["improvement"] == pytest.approx(0.5)


def test_the_numbers_of_rliable() -> None:
    rng = np.random.default_rng(5)
    mine, theirs = rng.random((7, 3)).round(2), rng.random((7, 3)).round(2)
    assert (interquartile_mean(mine), interquartile_mean(theirs)) == (pytest.approx(0.51), pytest.approx(0.49272727))
    assert probability_of_improvement(mine, theirs) == pytest.approx(0.53401361)


def test_intervals_cover_the_truth_and_empty_tables_are_refused() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for k in range(200):
        # A seed is lucky at all depths, as the same training is tested at all of them.
        scores = rng.normal([0.3, 0.5, 0.7], 0.02, size=(10, 3)) + rng.normal(0.0, 0.1, size=(10, 1))
        interval = over_seeds(lambda drawn: drawn.mean(axis=(-2, -1)), scores, resamples=400, seed=k)
        covered += interval.low <= 0.5 <= interval.high
    # 95 % nominal; with ten seeds a percentile interval covers about 92 %, and 200 draws have a standard error of 2.
    assert 0.84 <= covered / 200 <= 0.99
    with pytest.raises(InvalidArgument, match=r"shape \(0, 3\)"):
        over_seeds(interquartile_mean, np.empty((0, 3)))
