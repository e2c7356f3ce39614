"""``steptool play``: a person solves a task in the terminal and sees the reward of every call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steptool_env.env import StepToolEnv
from steptool_env.errors import did_you_mean
from steptool_env.rendering import printable
from steptool_env.types import ToolCall
from steptool_env.words import counted, earned, verdict

__all__ = ["play", "read_call"]

_WORD = re.compile(r"""(?:[^\s"']|"(?:[^"\\]|\\.)*"|'[^']*')+""")


def play(env: StepToolEnv, task: int | str | None, seed: int, console: Console, ask: Callable[[], str]) -> dict[str, Any]:
    """Let a person play one episode and return its result.

    Args:
        env: The environment.
        task: Index or id of the task; None draws one.
        seed: Seed for drawing the task.
        console: Console for all output.
        ask: Returns the next typed line; raises ``EOFError`` when there is none.

    Returns:
        ``task_id``, ``success``, ``steps``, ``reward``, ``hints`` and ``quit``.
    """
    _, info = env.reset(seed=seed, options=None if task is None else {"task": task})
    assert env.episode is not None
    show_task(env, console)
    show_tools(env, console)
    console.print(usage(env), markup=False, highlight=False, style="dim")
    total, hints, ended = 0.0, 0, False
    while not ended:
        try:
            line = ask().strip()
        except (EOFError, KeyboardInterrupt):
            line = "quit"
        match line:
            case "":
                continue
            case "quit" | "exit":
                break
            case "help" | "?":
                console.print(usage(env), markup=False, highlight=False, style="dim")
            case "tools":
                show_tools(env, console)
            case "task":
                show_task(env, console)
            case "hint":
                hints += 1
                console.print(hint(env), markup=False, style="cyan")
            case _:
                call = read_call(line, env.episode.toolkit.parameters)
                if isinstance(call, str):
                    console.print(call, markup=False, style="yellow")
                    continue
                _, reward, terminated, truncated, info = env.step(call)
                total += reward
                ended = terminated or truncated
                show_step(env, reward, total, info, console)
    if ended:
        show_end(env, total, console)
    return {"task_id": env.task.id, "success": info["success"], "steps": len(env.episode), "reward": total, "hints": hints, "quit": not ended}


def read_call(line: str, tools: Mapping[str, Mapping[str, Any]]) -> ToolCall | str:
    """Parse a typed call; if that fails, return a message that says why.

    Values without a name fill the arguments in the order of the schema. Values are JSON unless the schema asks for a string.
    """
    name, _, rest = line.partition(" ")
    if name not in tools:
        return f"There is no tool {name!r}.{did_you_mean(name, tools)} Type tools for the list, help for more."
    properties: Mapping[str, Any] = tools[name].get("properties", {})
    if rest.strip().startswith("{"):
        try:
            return ToolCall(name, json.loads(rest))
        except ValueError as fault:
            return f"The arguments are not JSON: {fault}"
    arguments: dict[str, Any] = {}
    for word in _WORD.findall(rest):
        key, equals, value = word.partition("=")
        if not equals or key not in properties:
            remaining = [parameter for parameter in properties if parameter not in arguments]
            if not remaining:
                return f"{name} takes {len(properties)} arguments: {', '.join(properties) or 'none'}; {word!r} is too much."
            key, value = remaining[0], word
        arguments[key] = _value(value, properties[key])
    return ToolCall(name, arguments)


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    plain = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    if schema.get("type", "string") == "string":
        return plain
    try:
        return json.loads(text)
    except ValueError:
        return plain


def show_task(env: StepToolEnv, console: Console) -> None:
    """Print the request and how many calls it may take."""
    budget = env.max_steps or env.task.max_steps
    console.print(Text(f"\n{env.task.id}, at most {counted(budget, 'call')}", style="dim"))
    console.print(Text(env.task.instruction, style="bold"))


def show_tools(env: StepToolEnv, console: Console) -> None:
    """Print the tools on offer with their arguments."""
    assert env.episode is not None
    rows = Table(box=None, pad_edge=False)
    for column in ("tool", "arguments", "what it does"):
        rows.add_column(column)
    for name, tool in env.episode.toolkit.items():
        required = tool.parameters.get("required", ())
        arguments = []
        for argument, schema in tool.parameters.get("properties", {}).items():
            choices = f" ({'|'.join(map(str, schema['enum']))})" if "enum" in schema else ""
            arguments.append(f"{argument}{choices}" if argument in required else f"[{argument}{choices}]")
        rows.add_row(Text(name, style="green"), Text(", ".join(arguments)), Text(tool.description, style="dim"))
    console.print(rows)


def usage(env: StepToolEnv) -> str:
    """Return how calls are typed, with a tool of this task as the example."""
    assert env.episode is not None
    tools = {name: [*tool.parameters.get("properties", {})] for name, tool in env.episode.toolkit.items() if name != "finish"}
    name, takes = next(((name, takes) for name, takes in tools.items() if takes), ("", []))
    short, long = f"{name} {' '.join(f'<{one}>' for one in takes[:2])}", f"{name} {' '.join(f'{one}=…' for one in takes[:2])}"
    width = max(len(short), len(long), 19) + 2
    lines = [('finish answer="Ada"', "ends the episode; give_up=true declines the task")]
    if name:
        lines = [(short, "values in the order of the arguments"), (long, "or by name"), *lines]
    return "\n".join(
        [
            "Type a call: a tool's name and its arguments, such as",
            *(f"  {call:{width}}{meaning}" for call, meaning in lines),
            "Further commands: tools (the list again), task (the request again), hint (the solution's next call), quit.",
        ]
    )


def hint(env: StepToolEnv) -> str:
    """Return the solution's next call in the form in which it can be typed."""
    solution = env.solution() if env.suite.has_solution else []
    if not solution:
        return "The task cannot be solved any more." if env.suite.has_solution else "This suite knows no solutions."
    values = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in solution[0].arguments.items())
    return f"{solution[0].name} {values}".strip()


def show_step(env: StepToolEnv, reward: float, total: float, info: Mapping[str, Any], console: Console) -> None:
    """Print what a call returned, and the parts of its reward."""
    assert env.episode is not None
    result = env.episode[-1].result
    console.print(Text(printable(result.content), style="red" if result.error else ""))
    left = (env.max_steps or env.task.max_steps) - len(env.episode)
    console.print(Text(f"{earned(reward, info['reward_parts'], total, info['progress'])}; {counted(left, 'call')} left", style="dim"))


def show_end(env: StepToolEnv, total: float, console: Console) -> None:
    """Print the verdict."""
    assert env.episode is not None
    outcome = env.episode[-1].outcome
    solved = outcome is not None and outcome.solved >= 1.0
    console.print(Text(verdict(outcome, len(env.episode), total), style="bold green" if solved else "bold red"))
