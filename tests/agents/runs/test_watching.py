"""Watchers see a run after each update, change nothing, and may end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lms import TINY  # noqa: F401  # sets one thread

from steptool_agents import Config
from steptool_agents.algorithms import load_algorithm
from steptool_agents.runs.folder import trained_weights
from steptool_agents.runs.watching import watching

SMALL: dict[str, Any] = {"suite_options": {"level": 1}, "demos": 4, "demo_batch": 4, "updates": 2, "episodes": 4, "eval_episodes": 2, "minibatches": 1}


class _Enough(Exception):
    pass


@pytest.mark.slow
def test_a_run_that_is_watched_and_stopped_ends_as_one_that_is_not(tmp_path: Path) -> None:
    config = Config.of(**SMALL)
    train = load_algorithm("step-ppo")
    train(config, tmp_path / "plain")
    seen: list[tuple[str, int]] = []

    def stop(run: Any) -> None:
        seen.append(("first", run.update))
        run.evaluate("looked")  # plays greedily: draws no number
        if run.update == 1:
            raise _Enough

    with pytest.raises(_Enough), watching(stop):
        train(config, tmp_path / "watched")
    with watching(lambda run: seen.append(("outer", run.update))), watching(lambda run: seen.append(("inner", run.update))):
        train(config, tmp_path / "watched", resume=True)
    assert seen == [("first", 1), ("outer", 2), ("inner", 2)]
    plain, watched = (trained_weights(tmp_path / name) for name in ("plain", "watched"))
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
