"""The files that the paper released, as trajectories.

The files lack the sampled tokens and their probabilities, and these cannot be restored. The texts of a row are tokenized here, once
and without special tokens between them.
"""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.formats import make_format
from steptool_env.rewards.paper import Judgment, aggregate
from steptool_env.types import Action, Malformed, Outcome, Task, ToolCall, ToolResult, Transition

from .types import Generation, Step, Trajectory

__all__ = ["read_annotations", "read_step_csv"]

Encode = Callable[[str], Sequence[int]]


def read_step_csv(path: str | Path, encode: Encode | None = None) -> list[Trajectory]:
    """Read a released file of step-grained rewards: tab-separated, each cell a Python list as text (prompt, response, reward).

    The rewards become the part ``released``; the last one, that of the answer, is also the verdict. Responses are parsed in
    the ReAct format; the release's ``Finish`` becomes ``finish``.

    Args:
        path: The file.
        encode: From text to token ids without special tokens; None: the trajectories have no tokens.

    Raises:
        DataError: A row is broken; the message names file, line and fault.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"), newline=""), delimiter="\t"))
    except csv.Error as fault:
        raise DataError(path, 1, str(fault)) from fault
    trajectories = []
    for number, row in enumerate(rows):
        try:
            prompts, responses, rewards = (_parse_list(row, key) for key in ("prompt", "response", "reward"))
            if not len(prompts) == len(responses) == len(rewards) > 0:
                raise ValueError(f"{len(prompts)} prompts, {len(responses)} responses and {len(rewards)} rewards; they must be as many")
            trajectories.append(_from_pieces(f"{Path(path).stem}-{number}", prompts, responses, [float(reward) for reward in rewards], encode))
        except (InvalidArgument, KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as fault:
            raise DataError(path, number + 2, f"row {number}: {type(fault).__name__}: {fault}") from fault
    return trajectories


def _parse_list(row: dict[str, Any], key: str) -> list[Any]:
    value = ast.literal_eval(row[key])  # parses only literals and runs no code
    if not isinstance(value, list):
        raise ValueError(f"{key!r} must be a list, got {value!r:.80}")
    return value


def _from_pieces(task_id: str, prompts: list[str], responses: list[str], rewards: list[float], encode: Encode | None) -> Trajectory:
    actions = [_action(text) for text in responses]
    names = dict.fromkeys(action.name for action in actions if isinstance(action, ToolCall))
    task = Task(task_id, prompts[0], (*names,), len(responses))
    steps = []
    for index, (prompt, text, action, reward) in enumerate(zip(prompts, responses, actions, rewards, strict=True)):
        last = index == len(responses) - 1
        ids = tuple(encode(text)) if encode is not None else ()
        generation = Generation(text, action, tuple(encode(prompt)) if encode is not None else (), ids, (0.0,) * len(ids))
        result = ToolResult("" if last else prompts[index + 1], "malformed" if isinstance(action, Malformed) else "")
        outcome = Outcome(min(max(reward, 0.0), 1.0), "released") if last else None
        steps.append(Step(generation, Transition(task, index, action, result, last, False, outcome), {"released": reward}))
    return Trajectory(tuple(steps))


def _action(text: str) -> Action:
    """Read a response of the release; its ``Finish(return_type, final_answer)`` is ``finish(answer, give_up)`` here."""
    action = make_format("react").parse(text)
    return _finish(action.arguments) if isinstance(action, ToolCall) and action.name == "Finish" else action


def _finish(arguments: Any) -> ToolCall:
    answer = {"answer": str(arguments.get("final_answer", ""))}
    return ToolCall("finish", answer | ({"give_up": True} if arguments.get("return_type") == "give_up_and_restart" else {}))


def read_annotations(path: str | Path) -> list[Trajectory]:
    """Read a released file of annotated trajectories, with the rewards computed from the annotations (``rewards/paper.py``).

    The parts are those of the shaper ``paper-judge``: ``success`` and ``contribution`` of a call, ``solved`` of the answer.

    Raises:
        DataError: The file or an entry is broken; the message names file, line or entry, and fault.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise DataError(path, getattr(fault, "lineno", 1), f"not JSON: {fault}") from fault
    trajectories = []
    for number, (query_id, entry) in enumerate(entries.items(), 1):
        try:
            trajectories.append(_annotated(str(query_id), entry))
        except (AttributeError, InvalidArgument, KeyError, SyntaxError, TypeError, ValueError) as fault:
            raise DataError(path, number, f"entry {query_id!r}: {type(fault).__name__}: {fault}") from fault
    return trajectories


def _annotated(query_id: str, entry: dict[str, Any]) -> Trajectory:
    judgments = [
        Judgment(tuple(annotation["succeed_tool_calling"]), tuple(annotation["contributions"]), str(entry["is_solved"][key]).rpartition(".")[2])
        for key, annotation in sorted(entry["process_reward"].items())
    ]
    rewards, solved = aggregate(judgments)
    calls = [_call(text) for text in entry["answer_steps"]]
    if len(calls) != len(rewards):
        raise ValueError(f"{len(calls)} calls, but {len(rewards)} were judged")
    final = _call(entry["final_step"])[0]
    task = Task(query_id, entry["query"], tuple("finish" if name == "Finish" else name for name in entry["tool_names"]), len(calls) + 1)
    steps = []
    for index, ((call, response), (success, contribution)) in enumerate(zip(calls, rewards, strict=True)):
        transition = Transition(task, index, call, ToolResult(response), False, False, None)
        steps.append(Step(Generation("", call), transition, {"success": success, "contribution": contribution, "solved": 0.0}))
    outcome = Outcome(solved, "judged")
    ending = Transition(task, len(calls), final, ToolResult(""), True, False, outcome)
    return Trajectory((*steps, Step(Generation("", final), ending, {"success": 0.0, "contribution": 0.0, "solved": solved})))


def _call(text: str) -> tuple[ToolCall, str]:
    """Read ``Step 1: {'name': …, 'arguments': '<JSON>', 'response': …}``."""
    record = ast.literal_eval(text[text.index("{") :])
    arguments = json.loads(record["arguments"]) if isinstance(record["arguments"], str) else record["arguments"]
    call = _finish(arguments) if record["name"] == "Finish" else ToolCall(str(record["name"]), arguments)
    return call, str(record["response"])
