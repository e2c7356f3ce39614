"""Trajectories in other forms: conversations (OpenAI, TRL) to and from JSON Lines, and a Minari data set."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from steptool_env.errors import DataError, InvalidArgument, MissingExtra
from steptool_env.types import Action, Message, Outcome, Task, ToolCall, ToolResult, Transition

from .remote import native, read_native
from .trajectory import Generation, Step, Trajectory

__all__ = ["read_conversations", "to_conversation", "to_minari", "write_conversations"]


# -------------------------------------------------------------------- conversations
def to_conversation(trajectory: Trajectory, tools: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return an episode as ``{"messages": […], "tools": […]}`` with native tool calls, as TRL's trainers and OpenAI take it.

    Beside them ``id``, ``reward`` (one per action) and ``success``, which trainers ignore.

    Args:
        trajectory: The episode.
        tools: The function schemas that were on offer; a trajectory keeps their names only.
    """
    said = [Message("user", trajectory.task.instruction)]
    for step in trajectory.steps:
        action = step.transition.action
        call = {"name": action.name, "arguments": dict(action.arguments)} if isinstance(action, ToolCall) else None
        said.append(Message("assistant", step.generation.text if call is None else json.dumps(call, ensure_ascii=False)))
        said.append(Message("tool", step.transition.result.content))
    record = {"messages": native(said), "tools": [dict(one) for one in tools], "id": trajectory.task.id}
    return record | {"reward": [step.reward for step in trajectory.steps], "success": trajectory.success}


def write_conversations(path: str | os.PathLike[str], trajectories: Iterable[Trajectory], tools: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write one conversation a line; see ``to_conversation``."""
    lines = [json.dumps(to_conversation(one, tools), ensure_ascii=False) + "\n" for one in trajectories]
    Path(path).write_text("".join(lines), encoding="utf-8")


def read_conversations(path: str | os.PathLike[str]) -> list[Trajectory]:
    """Read conversations, one a line, as trajectories: every native tool call of an assistant is a step.

    An assistant's message without a call is a ``finish`` with its text as the answer. Rewards are read where they are
    given, and are missing otherwise: the steps are then masked, for ``relabel`` to fill.

    Raises:
        DataError: A line is broken; names file and line.
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
    first = next((one["content"] for one in messages if one["role"] == "user"), None)
    if first is None:
        raise ValueError("no user says anything")
    actions: list[tuple[str, Action]] = []
    contents: list[str] = []
    waiting: dict[str, int] = {}  # id of a call without a result -> its place
    for message in messages:
        if message["role"] == "tool":
            key = message.get("tool_call_id")
            place = waiting.pop(key if key in waiting else next(iter(waiting), ""), None)
            if place is None:
                raise ValueError("a tool's result comes before any call")
            contents[place] = str(message.get("content") or "")
        if message["role"] != "assistant":
            continue
        calls, text = message.get("tool_calls") or [], str(message.get("content") or "")
        for call in calls:
            waiting[str(call.get("id", f"#{len(actions)}"))] = len(actions)
            actions.append((json.dumps(call.get("function", {}), ensure_ascii=False), read_native({"tool_calls": [call]})))
            contents.append("")
        if not calls:
            actions.append((text, ToolCall("finish", {"answer": text})))
            contents.append("")
    names = [str(one["function"]["name"]) for one in record.get("tools") or ()]
    task = Task(str(record.get("id", f"conversation-{number}")), str(first), tuple(names), len(actions))
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


# -------------------------------------------------------------------- Minari
def to_minari(trajectories: Sequence[Trajectory], dataset_id: str, *, description: str = "", **options: Any) -> Any:
    """Write trajectories as a Minari data set (in Minari's own folder, ``MINARI_DATASETS_PATH``) and return it.

    Observations are the transcript so far and actions the calls, both as ASCII JSON; rewards and ends are those of the
    steps. Masked steps have reward 0 and ``infos["masked"]`` set.

    Args:
        trajectories: At least one.
        dataset_id: Such as ``"steptool/worlds-v0"``.
        description: Of the data set.
        options: Further keywords of ``minari.create_dataset_from_buffers``.

    Raises:
        MissingExtra: The package minari is not installed.
        InvalidArgument: There is nothing to write.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as fault:
        raise MissingExtra("a Minari data set", "minari", "pip install 'steptool-env[minari]'") from fault
    if not trajectories:
        raise InvalidArgument("a data set needs at least one trajectory")
    buffers, longest = [], 1
    for number, trajectory in enumerate(trajectories):
        said = [["user", trajectory.task.instruction]]
        observations, actions = [json.dumps(said)], []
        for step in trajectory.steps:
            action = step.transition.action
            call = {"name": action.name, "arguments": dict(action.arguments)} if isinstance(action, ToolCall) else {"text": action.text}
            actions.append(json.dumps(call))
            said += [["assistant", actions[-1]], ["tool", step.transition.result.content]]
            observations.append(json.dumps(said))
        longest = max(longest, *map(len, observations), *map(len, actions))
        masked = np.array([False, *trajectory.masked])
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=observations,
                actions=actions,
                rewards=[float(one) for one in trajectory.rewards],
                terminations=[step.transition.terminated for step in trajectory.steps],
                truncations=[step.transition.truncated for step in trajectory.steps],
                infos={"masked": masked},
            )
        )
    space = gym.spaces.Text(longest, charset="".join(map(chr, range(32, 127))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks for an author and an address of the code; both are optional
        about = description or None
        return minari.create_dataset_from_buffers(dataset_id, buffers, observation_space=space, action_space=space, description=about, **options)
