"""Where the time of a step goes: each part of it alone, on a tool that does nothing, and what it buys.

    python benchmarks/step_parts.py

The result stands in benchmarks/results/env_speed.md. Each part is called by itself, in batches, and the tenth percentile of the batches
counts, less what an empty function takes. Parts that stand indented are within the one above them. "Python in between" is what the whole
step takes beyond its parts: names looked up, conditions, objects thrown away.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
from env_players import CALL, TEXT, Idle

from steptool_env import Message, Reading, StepToolEnv, ToolCall, ToolResult, Transition, make_format, read
from steptool_env.actions import read as read_action
from steptool_env.formats import Form
from steptool_env.formats.jsonvalue import raw_decode
from steptool_env.jsontext import quote
from steptool_env.types import new_tuple


class Part(NamedTuple):
    """A row of the table."""

    name: str
    buys: str
    function: Callable[[], object]
    depth: int = 0


class Cost(NamedTuple):
    """A part, measured."""

    name: str
    us: float
    buys: str
    depth: int


def core_parts(env: StepToolEnv) -> list[Part]:
    """Return the parts of a step of an environment that is in the middle of an episode."""
    episode = env.episode
    assert episode is not None
    toolkit, task, messages, progress = episode.toolkit, episode.task, episode.messages, 0.0
    call, text = read_action(CALL)
    assert isinstance(call, ToolCall)
    arguments: Any = call.arguments
    tool, result, parts = toolkit["look"], toolkit.execute(call), env._parts(episode, False)[0]
    return [
        Part("reading the action", "anything may be passed: it becomes a call or an observation that says what is wrong", lambda: read_action(CALL)),
        Part("its text", "the transcript is Markov, and what stands in it is JSON of bounded size", lambda: _text(call.name, arguments), 1),
        Part("a copy of the call", "whoever changes the arguments later changes no record", lambda: ToolCall(call.name, arguments.copy(), ()), 1),
        Part("toolkit.execute", "total: no mistake of the model and no fault of a tool raises", lambda: toolkit.execute(call)),
        Part("schema", "a tool sees only what its schema allows", lambda: tool.check(arguments), 1),
        Part("the tool itself", "the result", lambda: tool.function(**arguments), 1),
        Part("ToolResult", "the kind of an error says who pays for it", lambda: ToolResult("word", ""), 1),
        Part("two messages and the transcript", "observations share it without a copy", lambda: _transcript(messages, text, result.content)),
        Part("the transition", "the unit of credit: shapers, verdicts, trajectories", lambda: _transition(task, call, result)),
        Part("progress", "exact contribution of the step", lambda: env.suite.progress(task, episode)),
        Part("reward", "named parts, plain and finite floats, of any shaper", lambda: env._parts(episode, False)),
        Part("the shaper", "SC + Con + IsSolved", lambda: env.shaper(episode), 1),
        Part("tools on offer", "tools may change in mid-episode; samples take values from the transcript", lambda: _offer(env, messages)),
        Part("observation and info", "Gymnasium's interface, fresh dicts", lambda: _returned(messages, env._tools, task.id, progress, parts)),
    ]


def text_parts(form: Form) -> list[Part]:
    """Return the parts of reading a model's text; the core's step, which takes the call as it is, comes on top."""
    head = form.head.search(TEXT)
    assert head is not None
    scan = form.take(TEXT, head, ())
    name, arguments = "look", {"query": "here"}
    return [
        Part("reading the text", "any text: slips forgiven and named, reasoning cut off, broken calls explained", lambda: read(form, TEXT)),
        Part("where the call begins", "text before it is reasoning", lambda: form.head.search(TEXT), 1),
        Part("JSON, bounded in depth", "the call", lambda: raw_decode(TEXT, head.end()), 1),
        Part("the call", "what the core takes", lambda: ToolCall(name, arguments), 1),
        Part("what comes behind it", "further calls are counted, marks of reasoning seen", lambda: TEXT[scan.end :] in form.stop, 1),
        Part("Reading", "reasoning, further calls, repairs for info", lambda: new_tuple(Reading, (scan.action, "", 0, ())), 1),
    ]


def _text(name: str, arguments: dict[str, str]) -> str:
    pairs = [f"{quote(key)}: {quote(value)}" for key, value in arguments.items()]
    return f'{{"name": {quote(name)}, "arguments": {{{", ".join(pairs)}}}}}'


def _transcript(messages: tuple[Message, ...], text: str, content: str) -> object:
    return (*messages, new_tuple(Message, ("assistant", text)), new_tuple(Message, ("tool", content)))


def _transition(task: Any, call: ToolCall, result: ToolResult) -> object:
    return new_tuple(Transition, (task, 3, call, result, False, False, None, 0.0, 0.0))


def _offer(env: StepToolEnv, messages: tuple[Message, ...]) -> None:
    assert env.episode is not None
    if env.episode.toolkit.schemas is env._tools:
        env.action_space.see(messages)


def _returned(messages: tuple[Message, ...], tools: str, task: str, progress: float, parts: dict[str, float]) -> object:
    info = {"task_id": task, "success": 0.0, "progress": progress, "tool_error": "", "masked": False, "reward_parts": parts}
    return {"messages": messages, "tools": tools}, 0.0, False, False, info


# ---------------------------------------------------------------- the clock
def measure(parts: list[Part], batches: int) -> list[Cost]:
    """Return what each part costs; all take turns."""
    times: dict[str, list[float]] = {part.name: [] for part in parts}
    empty: list[float] = []
    for _ in range(batches):
        empty.append(_batch(lambda: None))
        for part in parts:
            times[part.name].append(_batch(part.function))
    nothing = _low(empty)
    return [Cost(part.name, _low(times[part.name]) - nothing, part.buys, part.depth) for part in parts]


def whole(env: gym.Env[Any, Any], action: Any, batches: int) -> float:
    """Return the microseconds of a whole step, in episodes of ten."""
    times = []
    for _ in range(batches):
        env.reset(seed=0)
        start = time.perf_counter()
        for _ in range(10):
            env.step(action)
        times.append(1e6 * (time.perf_counter() - start) / 10)
    return _low(times)


def _batch(function: Callable[[], object], calls: int = 100) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return 1e6 * (time.perf_counter() - start) / calls


def _low(times: list[float]) -> float:
    return statistics.quantiles(times, n=10)[0]


def table(title: str, total: float, wrapped: float, costs: list[Cost], between: str) -> str:
    """Return the parts as a table, with what is left over and what Gymnasium adds."""
    rest = total - sum(cost.us for cost in costs if not cost.depth)
    further = [Cost(between, rest, "", 0), Cost("gym.make's wrapper", wrapped - total, "reset before step", 0), Cost(title, wrapped, "", 0)]
    lines = [f"| {title} | µs | what it buys |", "|---|---:|---|"]
    lines += [f"| {'&emsp;' * cost.depth}{cost.name} | {cost.us:.2f} | {cost.buys} |" for cost in [*costs, *further]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=2000, help="batches of a hundred calls of each part (default: 2000)")
    batches = parser.parse_args().batches
    form = make_format("hermes")
    assert isinstance(form, Form)
    core = gym.make("StepTool-v0", suite=Idle(), disable_env_checker=True)
    text = gym.make("StepToolText-v0", suite=Idle(), disable_env_checker=True)
    bare = core.unwrapped
    assert isinstance(bare, StepToolEnv)
    core.reset(seed=0)
    for _ in range(5):
        core.step(CALL)
    costs = measure(core_parts(bare), batches)
    texts = measure(text_parts(form), batches)
    step, wrapped = whole(bare, CALL, batches), whole(core, CALL, batches)
    unwrapped = whole(text.unwrapped, TEXT, batches)
    print(table("a step of StepTool-v0", step, wrapped, costs, "Python in between"))
    print()
    # Instead of a copy of the call the core takes the one that was read.
    texts.append(Cost("the core's step", step, "", 0))
    print(table("a step of StepToolText-v0, hermes", unwrapped, whole(text, TEXT, batches), texts, "conversions and info, less one copy of the call"))


if __name__ == "__main__":
    main()
