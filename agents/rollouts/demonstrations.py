"""Demonstrations as JSON Lines, in the conversational format with tool calls that ``datasets`` and TRL read.

One line is one episode: ``messages`` (the roles ``user``, ``assistant`` with ``tool_calls``, and ``tool``), ``tools`` (a JSON string with
the list of function schemas: tables would fill schemas of different shape with nulls, and TRL reads either form), and about the
episode: ``task_id``, ``tags``, ``success``, ``steps``, ``mistakes``. The arguments of calls differ in shape, too: load the file
with ``load_dataset("json", data_files=…, on_mixed_types="use_json")`` of ``datasets`` 4.7 or later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument, NotSupported
from steptool_env.files import replacing
from steptool_env.scripted import random_caller
from steptool_env.tasks import TaskSuite
from steptool_env.types import ToolCall, Transition

__all__ = ["conversation", "demonstrations", "write_demonstrations"]


def demonstrations(
    suite: TaskSuite, count: int, *, noise: float = 0.0, most_depth: int | None = None, deeper: float = 0.0, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield demonstrations of a suite, from its first task on.

    Args:
        suite: It must have solutions.
        count: Number of demonstrations; fewer if the suite has no more tasks that are covered.
        noise: Probability that a step is a random valid call instead of the solution's next one. The solution then goes on from
            there; an episode that ``finish`` or lasting harm ended without success is left out, so that every line shows how to succeed.
        most_depth: Cover only tasks up to this depth (their tag ``depth``).
        deeper: Share of the deeper tasks that are covered nevertheless.
        seed: Seeds the noise and the choice of deeper tasks.

    Raises:
        InvalidArgument: A number is out of range.
        NotSupported: The suite has no solutions.
    """
    if not suite.has_solution:
        raise NotSupported(f"suite {suite.name!r} knows no solutions, so there is nothing to demonstrate")
    for name, share in (("noise", noise), ("deeper", deeper)):
        if not 0.0 <= share <= 1.0:
            raise InvalidArgument(f"{name} must be a share from 0 to 1, got {share!r}")
    if count < 1:
        raise InvalidArgument(f"count must be at least 1, got {count!r}")
    env, made = StepToolEnv(suite, "final"), 0
    for index in range(len(suite)):
        task = suite[index]
        rng = np.random.default_rng([seed, index])
        if most_depth is not None and int(task.tags.get("depth", 0)) > most_depth and rng.random() >= deeper:
            continue
        env.reset(options={"task": index})
        mistakes, ended, info = 0, False, dict[str, Any]()
        while not ended:
            solution = env.solution()
            if not solution:
                break
            is_mistake = rng.random() < noise
            mistakes += is_mistake
            *_, terminated, truncated, info = env.step(random_caller(env, rng) if is_mistake else solution[0])
            ended = terminated or truncated
        if not ended or info["success"] < 1.0:
            continue
        assert env.episode is not None
        yield conversation(list(env.episode), env.episode.toolkit.schemas, mistakes)
        made += 1
        if made == count:
            return


def conversation(episode: Sequence[Transition], tools: str, mistakes: int = 0) -> dict[str, Any]:
    """Return one episode as a line of the file."""
    task = episode[0].task
    messages: list[dict[str, Any]] = [{"role": "user", "content": task.instruction}]
    for transition in episode:
        function = transition.action.as_dict() if isinstance(transition.action, ToolCall) else {"name": "", "arguments": {}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]})
        messages.append({"role": "tool", "name": function["name"], "content": transition.result.content})
    outcome = episode[-1].outcome
    return {
        "messages": messages,
        "tools": tools,
        "task_id": task.id,
        "tags": dict(task.tags),
        "success": outcome.solved if outcome is not None else 0.0,
        "steps": len(episode),
        "mistakes": mistakes,
    }


def write_demonstrations(lines: Iterator[dict[str, Any]], path: Path, on_line: Callable[[int], None] | None = None) -> int:
    """Write demonstrations to a file, one JSON object a line; return how many there are.

    Args:
        lines: From ``demonstrations``.
        path: The file; it is replaced once all lines are written, so an interrupted run leaves no partial file.
        on_line: Called with the number of lines so far.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for count, line in enumerate(lines, 1):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            if on_line is not None:
                on_line(count)
    return count
