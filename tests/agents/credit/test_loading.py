"""Credit schemes of one's own, by reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from steptool_agents.config import Config
from steptool_agents.credit import CREDIT, Episodes
from steptool_agents.credit.loading import credited, load_scheme, scaling_of
from steptool_agents.learning.advantages import assign_credit
from steptool_agents.trajectory import Generation, Step, Trajectory
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.types import Task, ToolCall, ToolResult, Transition

OWN = """
import numpy as np

def last(episodes, gamma, lam):
    total = np.zeros_like(episodes.rewards)
    total[np.arange(len(total)), episodes.lengths - 1] = episodes.rewards.sum(axis=1)
    return total

last.scaling = "none"

def credit(episodes, gamma, lam):
    return episodes.rewards - gamma

def wrong_shape(episodes, gamma, lam):
    return episodes.rewards[:, :1]

def infinite(episodes, gamma, lam):
    return np.full_like(episodes.rewards, np.inf)

def text(episodes, gamma, lam):
    return "much"

def badly_scaled(episodes, gamma, lam):
    return episodes.rewards

badly_scaled.scaling = "a lot"
number = 3
"""
EPISODES = Episodes.of([[1.0, 2.0], [3.0]])


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return str(path)


def test_a_scheme_of_ones_own(own: str) -> None:
    assert credited(own, EPISODES, 0.5, 1.0)[0].tolist() == [0.5, 1.5]
    assert credited(f"{own}:last", EPISODES, 1.0, 1.0).tolist() == [[0.0, 3.0], [3.0, 0.0]]
    assert (scaling_of(own), scaling_of(f"{own}:last"), scaling_of("rloo"), scaling_of("step")) == ("whiten", "none", "scale", "whiten")
    assert load_scheme("step") is CREDIT["step"]


def test_it_reaches_the_advantages(own: str) -> None:
    task = Task("t", "?", ("finish",), 3)
    said = Generation("", ToolCall("f"), token_ids=(1, 2), logprobs=(0.0, 0.0))
    steps = [Step(said, Transition(task, k, ToolCall("f"), ToolResult(""), False, False, None), {"r": 1.0}) for k in range(2)]
    assert [found.tolist() for found in assign_credit([Trajectory(tuple(steps))], 1.0, 1.0, f"{own}:last").advantages] == [[0.0, 2.0]]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("stpe", UnknownName, r"unknown credit scheme 'stpe'. Did you mean 'step'.*module:object"),
        ("{own}:nothing", InvalidArgument, "has no 'nothing'"),
        ("{own}:number", InvalidArgument, "must be a function that takes \\(episodes, gamma, lam\\), got 3"),
        ("{own}:wrong_shape", InvalidArgument, r"must return advantages of shape \(2, 2\) or \(2, 2, 1\), got \(2, 1\)"),
        ("{own}:infinite", InvalidArgument, "not finite"),
        ("{own}:text", InvalidArgument, "must return an array of numbers"),
        ("no_such_module:f", InvalidArgument, "no module is called 'no_such_module'"),
    ],
)
def test_what_is_none(own: str, name: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        credited(name.format(own=own), EPISODES, 1.0, 1.0)


def test_a_scaling_that_there_is_not(own: str) -> None:
    with pytest.raises(InvalidArgument, match="must be one of whiten, scale, none, got 'a lot'"):
        scaling_of(f"{own}:badly_scaled")


def test_settings_take_it(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(own).parent)
    assert Config.of(credit="mine.py:last").learning.credit == f"{own}:last"
    with pytest.raises(UnknownName, match="unknown credit scheme 'lats'"):
        Config.of(credit="lats")
