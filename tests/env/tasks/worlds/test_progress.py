"""Progress in ``worlds`` is exact: 1 less the share of calls that the shortest way still takes, whatever was played before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steptool_env import Malformed, StepToolEnv, ToolCall
from steptool_env.tasks.worlds.world import World

MOVES = ("gold", "sample", "again", "any change", "mistake", "save", "restore")
MISTAKES = (Malformed("?", "no call"), ToolCall("get_nothing", {}), ToolCall("finish", {"answer": 7}), {"name": 3})


@pytest.fixture(scope="module", params=[3, 5], ids=["level 3", "level 5"])
def env(request: pytest.FixtureRequest) -> StepToolEnv:
    return StepToolEnv("worlds", level=request.param, max_steps=1000)


def world(env: StepToolEnv) -> World:
    assert env.episode is not None
    state = env.episode.toolkit.state
    assert isinstance(state, World)
    return state


def some_change(env: StepToolEnv, seed: int) -> dict[str, Any] | None:
    """Draw a call of a tool that changes something, with ids that fit."""
    plan = world(env).plan
    for name, tool in env.episode.toolkit.items() if env.episode is not None else ():
        if name.startswith(("get_", "list_", "finish", "wait")):
            continue
        keys = sorted(plan.entities)
        arguments: dict[str, Any] = {}
        for number, (one, schema) in enumerate(tool.parameters["properties"].items()):
            arguments[one] = 100 if schema["type"] == "integer" else keys[(seed * (number + 7)) % len(keys)]
        return {"name": name, "arguments": arguments}
    return None


@settings(max_examples=60)
@given(task=st.integers(0, 9999), seed=st.integers(0, 2**31 - 1), moves=st.lists(st.sampled_from(MOVES), max_size=25))
def test_progress_under_any_play(env: StepToolEnv, task: int, seed: int, moves: list[str]) -> None:
    env.reset(options={"task": task})
    env.action_space.seed(seed)
    saved = env.snapshot()
    for number, move in enumerate(moves):
        assert env.episode is not None
        before, harm = env.snapshot(), world(env).harm
        if move == "save":
            saved = before
            continue
        if move == "restore":
            env.restore(saved)
            assert world(env).progress == saved.progress and (env.solution() != []) == (world(env).harm == 0)
            continue
        last = env.episode[-1] if len(env.episode) else None
        options: dict[str, Any] = {
            "gold": env.solution()[:1],
            "sample": [env.action_space.sample()],
            "again": [last.action] if last is not None and not last.result.error and "stale" not in last.result.content else [],
            "any change": [some_change(env, seed + number)],
        }
        action = (options[move] or [None])[0] if move in options else MISTAKES[len(env.episode) % len(MISTAKES)]
        if action is None or (isinstance(action, ToolCall) and action.name == "finish" and move == "gold"):
            continue
        if isinstance(action, dict) and action["name"] == "finish":
            continue
        undone = isinstance(action, ToolCall | dict) and "undo_" in str(action)
        *_, terminated, truncated, info = env.step(action)
        assert not terminated and not truncated
        now, state = info["progress"], world(env)
        assert 0.0 <= now <= 1.0
        if state.harm == 0:  # the law that all others follow from
            assert now == pytest.approx(max(0, state.start - len(env.solution()) + 1) / state.start)
        else:
            assert env.solution() == []
        if move == "mistake" or (move == "again" and state.harm == harm and not undone):
            assert now == before.progress
        if move == "gold":
            assert now > before.progress or now == before.progress == 0.0
        if state.harm > harm:
            assert now < before.progress or now == before.progress == 0.0
    assert env.episode is not None
    gains = [one.progress - one.progress_before for one in env.episode]
    assert sum(gains) == pytest.approx(world(env).progress)
    assert [one.progress_before for one in env.episode] == [0.0, *(one.progress for one in env.episode)][: len(env.episode)]
    if solution := env.solution():
        for call in solution:
            *_, info = env.step(call)
        assert info["success"] == info["progress"] == 1.0
        assert sum(one.progress - one.progress_before for one in env.episode) == pytest.approx(1.0)
