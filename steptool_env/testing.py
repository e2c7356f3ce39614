"""Contract checks for what you write: a suite, a tool source, a shaper, a call format, or a whole environment.

    from steptool_env.testing import check_suite

    def test_my_suite():
        check_suite(MySuite())

Each check raises ``ContractError`` with the rule that is broken; the rules are the constants below. A check plays some
episodes with random calls and, where the suite knows solutions, with those: what no episode touches is not checked.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import pickle
import warnings
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env as _gymnasium_check_env
from gymnasium.utils.env_checker import data_equivalence

from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument
from steptool_env.formats import CallFormat
from steptool_env.rewards import RewardShaper
from steptool_env.tasks import TaskSuite
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import ERRORS, Action, Malformed, ToolCall, ToolResult

__all__ = ["ContractError", "check_env", "check_format", "check_shaper", "check_suite", "check_toolkit"]

FIVE = "step must return (observation, float, bool, bool, dict), with the plain types of Python for reward and ends"
IN_SPACE = "every observation must be in the observation space"
PARTS = "info['reward_parts'] must be a dict of finite floats that sum to the reward, with the same keys at every step"
INFO = "info must have the same keys with the same types at every step, and tool_error must be one of steptool_env.ERRORS"
SAME = "the same seed and the same actions must give the same episode, bit by bit: no clock, no global random state, no order of sets"
GLOBAL = "the global random generators (random, numpy.random) must be neither seeded nor drawn from"
COPY = "an environment restored from a snapshot, also a pickled one, must go on exactly as the original"
SOLVES = "the solution must solve its task within the budget, without a failed call"
TASKS = "a suite must be sized and indexed; task ids must differ, and index(task.id) must lead back to the task"
SHARED = "an episode must not change the suite: the same task must give the same episode again"
TOTAL = "a toolkit must answer every call with a ToolResult whose error is one of steptool_env.ERRORS; it must never raise"
SPEC = "a spec that JSON can write must come back from JSON the same, and make the same environment"
ROUND = "parse(render(call)) must equal the call"
WARNED = "Gymnasium's checker must pass without a warning"

_NASTY: tuple[Any, ...] = (None, 7, "text", b"bytes", [], {}, {"name": 3}, {"name": "", "arguments": {}}, {"name": "finish", "arguments": [1]}, object())


class ContractError(AssertionError):
    """A rule of the contract is broken; the message begins with the rule."""


def check_env(env: gym.Env[Any, Any], *, seed: int = 0, steps: int = 60, gymnasium: bool = True) -> None:
    """Check a whole environment: any registered id, with any suite, shaper and call format.

    Args:
        env: The environment, as ``gym.make`` returns it. It is reset and played.
        seed: Seed of the episodes.
        steps: How many random steps are played, twice.
        gymnasium: Run Gymnasium's own checker as well, with every warning an error.

    Raises:
        ContractError: A rule is broken.
    """
    inner: Any = env.unwrapped
    if gymnasium:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                # It renders in every mode, which without Pillow, an optional package, cannot be done.
                _gymnasium_check_env(inner, skip_render_check=env.spec is None or importlib.util.find_spec("PIL") is None)
            except Exception as fault:
                raise ContractError(f"{WARNED}: {fault}") from fault
    before = _global_state()
    first = _play(inner, seed, steps)
    _require(_global_state() == before, GLOBAL)
    _require(data_equivalence(first, _play(inner, seed, steps)), SAME)
    if inner.suite.can_snapshot:
        _check_copies(inner, seed)
    if env.spec is not None:
        _check_spec(env.spec, seed)


def check_suite(suite: TaskSuite, *, tasks: int = 10, seed: int = 0) -> None:
    """Check a suite: its tasks, solutions, copies, determinism and the environment that it makes.

    Args:
        suite: The suite.
        tasks: How many of its tasks are looked at.
        seed: Seed of the random calls.

    Raises:
        ContractError: A rule is broken.
    """
    count = min(tasks, len(suite))
    _require(count > 0, TASKS, "it has no tasks")
    seen = [suite[index] for index in range(count)]
    _require(len({task.id for task in seen}) == count, TASKS, f"ids {[task.id for task in seen]}")
    for index, task in enumerate(seen):
        _require(suite.index(task.id) == index, TASKS, f"index({task.id!r}) is {suite.index(task.id)}, not {index}")
    try:
        suite[len(suite)]
    except IndexError:
        pass
    else:
        raise ContractError(f"{TASKS}: suite[{len(suite)}] must raise IndexError, since there are {len(suite)} tasks")
    for index, task in enumerate(seen):
        toolkit = suite.toolkit(task)
        _require(set(task.tools) == set(toolkit), TASKS, f"task {task.id!r} names the tools {task.tools}, its toolkit has {tuple(toolkit)}")
        if suite.has_solution:
            ends = [_solve(suite, index) for _ in range(2)]
            _require(ends[0] == ends[1], SHARED, task.id)
            _require(ends[0] == (True, 1.0, ""), SOLVES, f"task {task.id!r} ended with (terminated, success, errors) = {ends[0]}")
        check_toolkit(toolkit, seed=seed)
    check_env(StepToolEnv(suite), seed=seed, gymnasium=True)


def check_toolkit(toolkit: Toolkit, *, calls: Iterable[ToolCall] = (), seed: int = 0) -> None:
    """Check a source of tools: schemas that can be sampled, and an answer to every call, good or bad.

    Args:
        toolkit: The toolkit. Its tools are called, so pass one whose calls are harmless.
        calls: Calls that must succeed.
        seed: Seed of the random calls.

    Raises:
        ContractError: A rule is broken.
    """
    from steptool_env.spaces import ToolCallSpace

    for schema in json.loads(toolkit.schemas):
        _require(schema["type"] == "function" and schema["function"]["name"] in toolkit, TOTAL, "its schemas name another tool")
    _require(_execute(toolkit, ToolCall("no such tool", {})).error == "unknown_tool", TOTAL, "an unknown tool must be answered with unknown_tool")
    for call in calls:
        result = _execute(toolkit, call)
        _require(not result.error, TOTAL, f"{call} failed: {result.content[:200]}")
    space = ToolCallSpace(toolkit.parameters, seed)
    for name in toolkit:
        for arguments in ({}, {"no such argument": 1}, dict.fromkeys(toolkit.parameters[name].get("properties", {}))):
            _execute(toolkit, ToolCall(name, arguments))
    for _ in range(20):
        sample = space.sample()
        fault = toolkit[sample["name"]].check(sample["arguments"])
        _require(not fault or "pattern" in json.dumps(toolkit[sample["name"]].parameters), TOTAL, f"a sampled call {sample} does not fit its schema: {fault}")
        _execute(toolkit, ToolCall(sample["name"], sample["arguments"]))


def check_shaper(shaper: RewardShaper, *, suite: str | TaskSuite = "worlds", episodes: int = 5, seed: int = 0) -> None:
    """Check a shaper: the same finite parts at every step, and the same for the same episode.

    Args:
        shaper: A name or a callable.
        suite: The suite that it is tried on.
        episodes: How many episodes of random calls, and of solutions where there are some.
        seed: Seed of the episodes.

    Raises:
        ContractError: A rule is broken.
    """
    env = StepToolEnv(suite, shaper)
    check_env(env, seed=seed, gymnasium=False)
    keys: set[tuple[str, ...]] = set()
    for number in range(episodes if env.suite.has_solution else 0):
        env.reset(seed=seed + number)
        for call in env.solution():
            *_, info = env.step(call)
            keys.add(tuple(info["reward_parts"]))
    _require(len(keys) <= 1, PARTS, f"the keys differ: {sorted(keys)}")


def check_format(form: CallFormat, *, calls: Iterable[ToolCall] = ()) -> None:
    """Check a call format: round trips of calls, and a call or a reason for every text.

    Args:
        form: The format.
        calls: Further calls that must survive a round trip.

    Raises:
        ContractError: A rule is broken.
    """
    nasty = ['"', "\\", "{", "}", "[", "]", "\n", "é😀", "</tool_call>", "Action: f\nAction Input: {}", "", " ", "'", "\0"]
    values: list[Any] = [*nasty, 0, -1.5, True, None, [], {}, [[1], {"a": {"b": ["\\"]}}]]
    built = [ToolCall("f", {"x": value, "y": 1}) for value in values] + [ToolCall("get order" + mark, {mark or "x": mark}) for mark in nasty]
    texts = []
    for call in [*built, *calls]:
        try:
            written = form.render(call)
        except InvalidArgument as fault:  # a form that writes names without quotes may refuse them, but not plain ones
            _require(not all(map(str.isidentifier, (call.name, *call.arguments))), ROUND, f"{call} was refused: {fault}")
            continue
        texts.append(written)
        found = form.parse(written)
        _require(isinstance(found, ToolCall) and found == call, ROUND, f"{call} was written {written!r} and read as {found}")
    for text in [*nasty, *(text[:-3] for text in texts), "\ud800", "x" * 1000]:
        try:
            action: Action = form.parse(text)
        except Exception as fault:
            raise ContractError(f"parse must be total: {text[:100]!r} raised {fault!r}") from fault
        _require(isinstance(action, ToolCall | Malformed), "parse must return a ToolCall or a Malformed", repr(action))
        _require(isinstance(action, ToolCall) or bool(action.reason), "a Malformed must give the reason", repr(text))


# ---------------------------------------------------------------- parts
def _require(holds: bool, rule: str, seen: str = "") -> None:
    if not holds:
        raise ContractError(f"{rule}: {seen}" if seen else rule)


def _global_state() -> str:
    import random

    return repr((random.getstate(), [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()]))


def _play(env: Any, seed: int, steps: int) -> list[Any]:
    """Play random actions, check every answer, and return them all."""
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    _require(env.observation_space.contains(observation), IN_SPACE, f"reset returned {str(observation)[:300]}")
    kinds = {key: type(value) for key, value in info.items()}
    keys: list[str] | None = None
    seen: list[Any] = [observation, copy.deepcopy(info)]
    for number in range(steps):
        action = _NASTY[number % len(_NASTY)] if number % 5 == 4 else env.action_space.sample()
        answer = env.step(action)
        observation, reward, terminated, truncated, info = answer
        _require([type(value) for value in answer[1:]] == [float, bool, bool, dict], FIVE, f"got {[type(value).__name__ for value in answer]}")
        _require(env.observation_space.contains(observation), IN_SPACE, f"step returned {str(observation)[:300]}")
        parts = info["reward_parts"]
        _require(all(type(value) is float and math.isfinite(value) for value in parts.values()), PARTS, str(parts))
        _require(math.isclose(sum(parts.values()), reward, abs_tol=1e-9), PARTS, f"{parts} sums to {sum(parts.values())}, the reward is {reward}")
        keys = keys or list(parts)
        _require(list(parts) == keys, PARTS, f"{list(parts)} after {keys}")
        _require({key: type(value) for key, value in info.items() if key != "reward_parts"} == kinds, INFO, f"{info} after {kinds}")
        _require(info["tool_error"] in ERRORS, INFO, info["tool_error"])
        seen.append((observation, reward, terminated, truncated, copy.deepcopy(info)))
        if terminated or truncated:
            seen.append(env.reset())
    return seen


def _check_copies(env: Any, seed: int) -> None:
    env.action_space.seed(seed)
    env.reset(seed=seed)
    env.step(env.action_space.sample())
    saved = env.snapshot()
    try:
        packed = pickle.dumps(saved)
    except Exception as fault:
        raise ContractError(f"{COPY}: it cannot be pickled: {fault}") from fault
    twins = [env.fork()]
    expected = _continue(env)
    for way in (saved, pickle.loads(packed)):
        env.restore(way)
        _require(data_equivalence(_continue(env), expected), COPY)
    _require(data_equivalence(_continue(twins[0]), expected), COPY, "a fork went another way")


def _continue(env: Any) -> list[Any]:
    seen = []
    for _ in range(8):
        if env.core._ended if hasattr(env, "core") else env._ended:
            break
        seen.append(env.step(env.action_space.sample()))
    return seen


def _check_spec(spec: Any, seed: int) -> None:
    try:
        text = spec.to_json()
    except (TypeError, ValueError):  # an object among the arguments: the spec makes environments, but is not JSON
        restored = spec
    else:
        restored = gym.envs.registration.EnvSpec.from_json(text)
        _require(restored.to_json() == text, SPEC)
    original, reloaded = gym.make(spec), gym.make(restored)
    _require(data_equivalence(original.reset(seed=seed), reloaded.reset(seed=seed)), SPEC)
    original.close()
    reloaded.close()


def _solve(suite: TaskSuite, index: int) -> tuple[bool, float, str]:
    env = StepToolEnv(suite, "final")
    env.reset(seed=0, options={"task": index})
    errors, terminated, success = "", False, 0.0
    for call in env.solution():
        *_, terminated, _, info = env.step(call)
        errors, success = errors + info["tool_error"], info["success"]
        if env._ended:
            break
    return terminated, success, errors


def _execute(toolkit: Toolkit, call: ToolCall) -> ToolResult:
    try:
        result = toolkit.execute(call)
    except Exception as fault:
        raise ContractError(f"{TOTAL}: {call} raised {fault!r}") from fault
    _require(isinstance(result, ToolResult) and isinstance(result.content, str) and result.error in ERRORS, TOTAL, f"{call} returned {result}")
    return result


