"""Trajectories as conversations with native tool calls (the format of OpenAI and TRL), to and from JSON Lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.files import write_text
from steptool_env.types import Action, Message, Outcome, Task, ToolCall, ToolResult, Transition

from .messages import as_tool_calls, read_tool_call
from .types import Generation, Step, Trajectory

__all__ = ["read_conversations", "to_conversation", "write_conversations"]


def to_conversation(trajectory: Trajectory, tools: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return an episode as ``{"messages": […], "tools": […]}`` with native tool calls, as TRL's trainers and OpenAI accept it.

    The further keys ``id``, ``reward`` (one per action) and ``success`` are ignored by trainers.

    Args:
        trajectory: The episode.
        tools: The function schemas that were on offer; a trajectory keeps their names only.
    """
    messages = [Message("user", trajectory.task.instruction)]
    for step in trajectory.steps:
        action = step.transition.action
        messages.append(Message("assistant", action.as_json() if isinstance(action, ToolCall) else step.generation.text))
        messages.append(Message("tool", step.transition.result.content))
    record = {"messages": as_tool_calls(messages), "tools": [dict(schema) for schema in tools], "id": trajectory.task.id}
    return record | {"reward": [step.reward for step in trajectory.steps], "success": trajectory.success}


def write_conversations(path: str | os.PathLike[str], trajectories: Iterable[Trajectory], tools: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write one conversation per line, see ``to_conversation``; an existing file is replaced."""
    lines = [json.dumps(to_conversation(trajectory, tools), ensure_ascii=False) + "\n" for trajectory in trajectories]
    write_text(path, "".join(lines))


def read_conversations(path: str | os.PathLike[str]) -> list[Trajectory]:
    """Read conversations, one per line, as trajectories: every native tool call of the assistant is a step.

    An assistant message without a call is a ``finish`` with its text as the answer. If a conversation has no rewards, all its
    steps are masked with reward 0; ``relabel`` can fill them in.

    Raises:
        DataError: A line is broken; the message names file, line and fault.
    """
    trajectories = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            trajectories.append(_trajectory(json.loads(line), number))
        except (AttributeError, InvalidArgument, KeyError, RecursionError, TypeError, ValueError) as fault:
            raise DataError(path, number, f"{type(fault).__name__}: {fault}") from fault
    return trajectories


def _trajectory(record: Mapping[str, Any], number: int) -> Trajectory:
    messages = record["messages"]
    instruction = next((message["content"] for message in messages if message["role"] == "user"), None)
    if instruction is None:
        raise ValueError("no user says anything")
    actions: list[tuple[str, Action]] = []
    contents: list[str] = []
    pending: dict[str, int] = {}  # id of a call without a result -> index of its action
    for message in messages:
        if message["role"] == "tool":
            key = message.get("tool_call_id")
            position = pending.pop(key if key in pending else next(iter(pending), ""), None)
            if position is None:
                raise ValueError("a tool's result comes before any call")
            contents[position] = str(message.get("content") or "")
        if message["role"] != "assistant":
            continue
        calls, text = message.get("tool_calls") or [], str(message.get("content") or "")
        for call in calls:
            pending[str(call.get("id", f"#{len(actions)}"))] = len(actions)
            actions.append((json.dumps(call.get("function", {}), ensure_ascii=False), read_tool_call({"tool_calls": [call]})))
            contents.append("")
        if not calls:
            actions.append((text, ToolCall("finish", {"answer": text})))
            contents.append("")
    names = [str(schema["function"]["name"]) for schema in record.get("tools") or ()]
    task = Task(str(record.get("id", f"conversation-{number}")), str(instruction), tuple(names), len(actions))
    rewards = record.get("reward")
    if rewards is not None and len(rewards) != len(actions):
        raise ValueError(f"{len(actions)} actions, but {len(rewards)} rewards")
    steps = []
    for index, ((text, action), content) in enumerate(zip(actions, contents, strict=True)):
        last = index == len(actions) - 1
        outcome = Outcome(float(record.get("success", 0.0)), "from the conversation") if last else None
        ended = last and isinstance(action, ToolCall) and action.name == "finish"
        transition = Transition(task, index, action, ToolResult(content), ended, last and not ended, outcome)
        steps.append(Step(Generation(text, action), transition, {"reward": float(rewards[index]) if rewards else 0.0}, masked=rewards is None))
    return Trajectory(tuple(steps))
