"""Files of trajectories: JSON Lines, one trajectory per line; readable, appendable, and without code (no pickle)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.files import write_bytes
from steptool_env.types import ERRORS, Action, Malformed, Outcome, Task, ToolCall, ToolResult, Transition, Unanswered

from .types import Generation, Step, Trajectory

__all__ = ["from_lines", "read_jsonl", "to_lines", "write_jsonl"]

T = TypeVar("T")
_MOST = 2**63


def write_jsonl(path: str | os.PathLike[str], trajectories: Iterable[Trajectory], append: bool = False) -> None:
    """Write one line per trajectory.

    ``task.data`` is private to the suite and not stored; everything else is. Everything is encoded before the file is
    touched, and a new file replaces the old one atomically. When appending, a half-written last line of a killed process is
    dropped first.

    Args:
        path: The file; its folder must exist.
        trajectories: What to write.
        append: Append to the file instead of replacing it.

    Raises:
        InvalidArgument: A trajectory holds a value that JSON cannot hold (NaN, an object …); nothing is written.
    """
    target = Path(path)
    data = to_lines(trajectories)
    if append:
        with open(target, "ab+") as file:
            _end_last_line(file)
            file.write(data)
        return
    write_bytes(target, data)


def read_jsonl(path: str | os.PathLike[str]) -> list[Trajectory]:
    """Read what ``write_jsonl`` wrote; ``task.data`` is None.

    Raises:
        DataError: A line is broken; the message names file, line and fault.
        FileNotFoundError: There is no such file.
    """
    return from_lines(Path(path).read_bytes(), path)


def to_lines(trajectories: Iterable[Trajectory]) -> bytes:
    """Return what ``write_jsonl`` writes; raises as it does."""
    return b"".join(_encode(trajectory, k) for k, trajectory in enumerate(trajectories))


def from_lines(data: bytes, path: str | os.PathLike[str]) -> list[Trajectory]:
    """Return the trajectories of such lines.

    Args:
        data: The lines.
        path: Where they come from, for the error message.

    Raises:
        DataError: A line is broken.
    """
    lines = data.split(b"\n")  # not splitlines(): a string may contain U+2028 and the like
    if not lines[-1]:
        lines.pop()
    trajectories = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line.decode("utf-8"), parse_constant=_reject, parse_float=_finite)
            trajectories.append(_trajectory(record))
        except RecursionError:
            raise DataError(path, number, "the values are nested too deeply") from None
        except json.JSONDecodeError as fault:
            raise DataError(path, number, f"not a JSON value: {fault}") from fault
        except UnicodeDecodeError as fault:
            raise DataError(path, number, f"not UTF-8: {fault}") from fault
        except (ValueError, TypeError) as fault:
            raise DataError(path, number, str(fault)) from fault
    return trajectories


def _encode(trajectory: Trajectory, index: int) -> bytes:
    task = trajectory.task
    record = {
        "task": {
            "id": task.id,
            "instruction": task.instruction,
            "tools": list(task.tools),
            "max_steps": task.max_steps,
            "tags": dict(task.tags),
        },
        "steps": [_step_record(step) for step in trajectory.steps],
    }
    try:
        _check_keys(record)
        for key, tag in task.tags.items():  # what cannot be read back is not written
            _check_type(tag, type(tag), f"the tag {key!r}")
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            return line.encode("utf-8") + b"\n"
        except UnicodeEncodeError:  # a lone surrogate, such as a model's "\ud800", can only be written as a JSON escape
            return json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as fault:
        raise InvalidArgument(f"trajectory {index} (task {task.id!r}) cannot be written as JSON: {fault}") from fault


def _check_keys(value: Any) -> None:
    """Refuse what json.dumps would silently change, such as the key 1 or a tuple: reading must return what was written."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key must be a string, got {key!r}")
            _check_keys(entry)
    elif isinstance(value, list):
        for entry in value:
            _check_keys(entry)
    elif isinstance(value, tuple):
        raise TypeError(f"a list is expected instead of the tuple {value!r}")


def _step_record(step: Step) -> dict[str, Any]:
    generation, transition = step.generation, step.transition
    outcome = transition.outcome
    record: dict[str, Any] = {
        "text": generation.text,
        "action": _action_record(generation.action),
        "prompt_ids": [int(i) for i in generation.prompt_ids],
        "token_ids": [int(i) for i in generation.token_ids],
        "logprobs": [float(x) for x in generation.logprobs],
        "value": float(generation.value),
        "step": transition.step,
        "result": {"content": transition.result.content, "error": transition.result.error},
        "terminated": bool(transition.terminated),
        "truncated": bool(transition.truncated),
        "outcome": None if outcome is None else {"solved": float(outcome.solved), "reason": outcome.reason},
        "progress": float(transition.progress),
        "progress_before": float(transition.progress_before),
        "parts": {name: float(value) for name, value in step.parts.items()},
        "masked": bool(step.masked),
    }
    if generation.reasoning:
        record["reasoning"] = generation.reasoning
    if generation.forced != (0, 0):
        record["forced"] = list(generation.forced)
    if generation.importance:
        record["importance"] = [float(x) for x in generation.importance]
    if transition.action != generation.action:  # usually equal, then stored only once
        record["executed"] = _action_record(transition.action)
    return record


def _action_record(action: Action) -> dict[str, Any]:
    if isinstance(action, Malformed):
        return {"unanswered" if isinstance(action, Unanswered) else "malformed": action.text, "reason": action.reason}
    return {**action.as_dict(), "repaired": list(action.repaired)} if action.repaired else action.as_dict()


def _end_last_line(file: BinaryIO) -> None:
    """Leave the file at the end of a complete line."""
    size = file.seek(0, os.SEEK_END)
    start, tail = size, b""
    while start and b"\n" not in tail:
        start = max(0, start - 65536)
        file.seek(start)
        tail = file.read(size - start)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return
    try:
        json.loads(last)
    except ValueError:
        file.truncate(size - len(last))
    else:  # complete except for the newline, which some editors omit
        file.write(b"\n")


# ---------------------------------------------------------------- reading: every field is checked, for clear error messages
def _reject(constant: str) -> float:
    raise ValueError(f"{constant} is not allowed; every number must be finite")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _reject(text)


def _get(record: Mapping[str, Any], key: str, kind: type[T]) -> T:
    if key not in record:
        raise ValueError(f"the field {key!r} is missing")
    return _check_type(record[key], kind, f"the field {key!r}")


def _check_type(value: Any, kind: type[T], label: str) -> T:
    if type(value) is int and abs(value) >= _MOST:  # no id, count or reward is; arrays of 64-bit numbers could not hold it
        raise ValueError(f"{label} must be less than 2**63, got a number of {len(str(value))} digits")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:  # exact: True is not an int
        raise ValueError(f"{label} must be of type {kind.__name__}, got {value!r:.80}")
    return value


def _get_list(record: Mapping[str, Any], key: str, kind: type[T]) -> tuple[T, ...]:
    return tuple(_check_type(value, kind, f"every entry of {key!r}") for value in _get(record, key, list))


def _check_fields(record: Mapping[str, Any], label: str, *known: str) -> None:
    if unknown := sorted(set(record) - set(known)):
        raise ValueError(f"{label} has the unknown field {unknown[0]!r}; known: {', '.join(known)}")


def _trajectory(value: Any) -> Trajectory:
    record = _check_type(value, dict, "a line")
    _check_fields(record, "a trajectory", "task", "steps")
    raw = _get(record, "task", dict)
    _check_fields(raw, "a task", "id", "instruction", "tools", "max_steps", "tags")
    tags = _get(raw, "tags", dict)
    for key, tag in tags.items():
        if type(tag) is not int:
            _check_type(tag, str, f"the tag {key!r}, unless it is an integer,")
        _check_type(tag, type(tag), f"the tag {key!r}")
    task = Task(_get(raw, "id", str), _get(raw, "instruction", str), _get_list(raw, "tools", str), _get(raw, "max_steps", int), None, tags)
    steps = tuple(_step(entry, task) for entry in _get_list(record, "steps", dict))
    return Trajectory(steps)


STEP_FIELDS = (
    *("text", "action", "prompt_ids", "token_ids", "logprobs", "value", "step", "result", "terminated", "truncated"),
    *("outcome", "progress", "progress_before", "parts", "masked", "executed", "reasoning", "forced", "importance"),
)


def _step(record: Mapping[str, Any], task: Task) -> Step:
    _check_fields(record, "a step", *STEP_FIELDS)
    action = _action(_get(record, "action", dict))
    ids, tokens, logprobs = _get_list(record, "prompt_ids", int), _get_list(record, "token_ids", int), _get_list(record, "logprobs", float)
    reasoning = _get(record, "reasoning", str) if "reasoning" in record else ""
    importance = _get_list(record, "importance", float) if "importance" in record else ()
    forced = _get_list(record, "forced", int) if "forced" in record else (0, 0)
    if len(forced) != 2:
        raise ValueError(f"the field 'forced' must hold two integers, got {forced!r:.80}")
    text, value = _get(record, "text", str), _get(record, "value", float)
    generation = Generation(text, action, ids, tokens, logprobs, value, reasoning, (forced[0], forced[1]), importance)
    raw = _get(record, "result", dict)
    _check_fields(raw, "a result", "content", "error")
    result = ToolResult(_get(raw, "content", str), _get(raw, "error", str))
    if result.error not in ERRORS:
        raise ValueError(f"unknown kind of error {result.error!r}; known: {', '.join(ERRORS[1:])}, or empty")
    outcome = None
    if record.get("outcome", 0) is not None:
        raw = _get(record, "outcome", dict)
        _check_fields(raw, "an outcome", "solved", "reason")
        outcome = Outcome(_get(raw, "solved", float), _get(raw, "reason", str))
    transition = Transition(
        task,
        _get(record, "step", int),
        _action(_get(record, "executed", dict)) if "executed" in record else action,
        result,
        _get(record, "terminated", bool),
        _get(record, "truncated", bool),
        outcome,
        _get(record, "progress", float),
        _get(record, "progress_before", float),
    )
    parts = {name: _check_type(value, float, f"the reward part {name!r}") for name, value in _get(record, "parts", dict).items()}
    return Step(generation, transition, parts, _get(record, "masked", bool))


def _action(record: Mapping[str, Any]) -> Action:
    if "malformed" in record:
        _check_fields(record, "a malformed action", "malformed", "reason")
        return Malformed(_get(record, "malformed", str), _get(record, "reason", str))
    if "unanswered" in record:
        _check_fields(record, "an action that nobody gave", "unanswered", "reason")
        return Unanswered(_get(record, "unanswered", str), _get(record, "reason", str))
    _check_fields(record, "an action", "name", "arguments", "repaired")
    repaired = _get(record, "repaired", list) if "repaired" in record else []
    if not all(isinstance(slip, str) for slip in repaired):
        raise ValueError(f"'repaired' must be a list of strings, got {repaired!r:.100}")
    return ToolCall(_get(record, "name", str), _get(record, "arguments", dict), tuple(repaired))
