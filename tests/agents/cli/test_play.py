"""``steptool play``: a person's lines become calls, and every call shows what it earned."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console
from toy import Counter, Counting

from steptool_agents.cli.play import hint, play, read_call
from steptool_env import Outcome, StepToolEnv, Task, Tool, ToolCall, Toolkit
from steptool_env.tasks.worlds import Worlds
from steptool_env.words import verdict


def run(lines: list[str], env: StepToolEnv | None = None) -> tuple[dict[str, object], str]:
    """Play with these lines; "hint!" plays the next hint."""
    env = env or StepToolEnv(Worlds(level=3, families="lookup"))
    console = Console(file=io.StringIO(), width=200)
    typed: Iterator[str] = iter(lines)

    def ask() -> str:
        line = next(typed, None)
        if line is None:
            raise EOFError
        return hint(env) if line == "hint!" else line

    result = play(env, 5, 0, console, ask)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_a_task_is_solved_by_its_hints() -> None:
    result, shown = run(["", "help", "tools", "task", "hint", *["hint!"] * 10])
    assert result["success"] == 1.0 and result["hints"] == 1 and not result["quit"]
    assert result["reward"] == pytest.approx(1.5)
    assert "Solved: solved" in shown and "progress 100%" in shown and "con +" in shown and "calls left" in shown


def test_mistakes_are_told_and_one_can_leave() -> None:
    result, shown = run(["get_nothing", "finish a b c", "finish {", "get_customer X99", "quit"])
    assert result["quit"] and result["success"] == 0.0
    assert "There is no tool 'get_nothing'" in shown and "is too much" in shown and "not JSON" in shown


def test_a_tool_cannot_send_commands_to_the_terminal() -> None:
    class Rude(Counting):
        def toolkit(self, task: Task) -> Toolkit:
            return Toolkit([Tool("rude", "", {"type": "object"}, lambda: "\x1b[2J[bold]"), *self.tools], Counter())

    _, shown = run(["rude", "quit"], StepToolEnv(Rude()))
    assert "\x1b" not in shown and "\ufffd[2J[bold]\n" in shown


@pytest.mark.parametrize(
    ("outcome", "total", "said"),
    [
        (Outcome(1.0, "right"), 1.5, "Solved: right. 1 call, +1.500 in all."),
        (Outcome(0.5), -0.25, "Solved in part (0.50). 1 call, -0.250 in all."),
        (None, None, "Not solved. 1 call, reward missing."),
    ],
)
def test_verdicts(outcome: Outcome | None, total: float | None, said: str) -> None:
    assert verdict(outcome, 1, total) == said


TOOLS = {
    "get": {"properties": {"order_id": {"type": "string"}, "page": {"type": "integer"}}},
    "finish": {"properties": {"answer": {"type": "string"}, "give_up": {"type": "boolean"}}},
}


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("get O12", {"order_id": "O12"}),
        ("get O12 2", {"order_id": "O12", "page": 2}),
        ("get page=2 O12", {"page": 2, "order_id": "O12"}),
        ("get page=two", {"page": "two"}),
        ('get {"order_id": "O12"}', {"order_id": "O12"}),
        ('finish answer="Ada and Eva" give_up=true', {"answer": "Ada and Eva", "give_up": True}),
        ("finish 'a=b'", {"answer": "a=b"}),
        ("finish 12", {"answer": "12"}),
        ("get", {}),
    ],
)
def test_lines_are_read(line: str, arguments: dict[str, object]) -> None:
    assert read_call(line, TOOLS) == ToolCall(line.split()[0], arguments)


def test_the_example_of_a_call_is_one_of_this_task() -> None:
    env = StepToolEnv(Worlds(level=3, families="lookup"))
    _, shown = run(["quit"], env)
    assert env.episode is not None
    name, tool = next((name, tool) for name, tool in env.episode.toolkit.items() if name != "finish")
    (argument,) = tool.parameters["properties"]
    assert f"  {name} <{argument}> " in shown and f"  {name} {argument}=… " in shown
