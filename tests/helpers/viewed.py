"""Episodes of three kinds and a hostile one, as a person would look at them; and a reader of pages."""

from __future__ import annotations

import html.parser
import math
from collections.abc import Sequence
from typing import Any

from steptool_agents.trajectory import Generation, Step, Trajectory
from steptool_env.types import Action, Malformed, Outcome, Task, ToolCall, ToolResult, Transition, Unanswered

__all__ = ["ADD", "DEEP", "EPISODES", "FINISH", "RUDE", "SHALLOW", "Reader", "cut_off", "failed", "rude", "solved", "step"]

SHALLOW = Task("shallow", "Count to 1.", ("add", "finish"), 5, None, {"depth": 1, "family": "count"})
DEEP = Task("deep", "Count to 2.", ("add", "finish"), 5, None, {"depth": 2, "family": "count"})
ADD, FINISH = ToolCall("add", {"amount": 1}), ToolCall("finish", {"answer": "1"})


def step(
    task: Task,
    number: int,
    action: Action,
    content: str,
    error: str = "",
    *,
    parts: dict[str, float] | None = None,
    progress: float = 0.0,
    ends: str = "",
    solved: float = 0.0,
    reason: str = "",
    **generation: Any,
) -> Step:
    outcome = Outcome(solved, reason) if ends else None
    transition = Transition(task, number, action, ToolResult(content, error), ends == "finish", ends == "budget", outcome, progress)
    said = Generation(generation.pop("text", ""), action, **generation)
    return Step(said, transition, parts or {"sc": 0.0}, error == "unavailable")


def solved() -> Trajectory:
    """Two calls, of rewards 0.5 and 1: the first was sampled as two tokens with probabilities 1 and ¼."""
    first = {"text": 'I add.\n<tool_call>{"name": "add"}</tool_call>', "token_ids": (7, 8), "logprobs": (0.0, math.log(0.25)), "value": 0.75}
    return Trajectory(
        (
            step(SHALLOW, 0, ADD, "The counter shows 1.", parts={"sc": 0.0, "con": 0.5, "solved": 0.0}, progress=1.0, **first),
            step(SHALLOW, 1, FINISH, "The end.", parts={"sc": 0.0, "con": 0.0, "solved": 1.0}, progress=1.0, ends="finish", solved=1.0, reason="right"),
        )
    )


def failed() -> Trajectory:
    """No call, then one that fails: out of calls."""
    return Trajectory(
        (
            step(DEEP, 0, Malformed("I think it is 2.", "no call"), "Error: no call", "malformed", parts={"sc": -0.25}),
            step(DEEP, 1, ToolCall("add", {"amount": "x"}), "Error: no number", "bad_arguments", parts={"sc": -0.25}, ends="budget"),
        )
    )


def cut_off() -> Trajectory:
    return Trajectory((step(DEEP, 0, Unanswered("", "no server"), "Error: no server", "unavailable", ends="budget"),))


EPISODES = [solved(), failed(), cut_off()]


RUDE = "\x1b[2J\x07\ud800[bold]<script>alert(1)</script>&amp;\"'"


def rude() -> Trajectory:
    """Everything that a text can stand in, hostile."""
    task = Task(RUDE, RUDE, ("add",), 5, None, {RUDE: RUDE})
    return Trajectory(
        (
            step(task, 0, Malformed(RUDE, RUDE), RUDE, "malformed", parts={RUDE: 1.0}, text=RUDE),
            step(task, 1, ToolCall(RUDE, {RUDE: RUDE}), RUDE, parts={RUDE: 1.0}, ends="finish", reason=RUDE),
        )
    )


class Reader(html.parser.HTMLParser):
    """Reads a page; fails on tags that do not pair up."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
