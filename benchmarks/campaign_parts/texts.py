"""A million texts of a model, over every call format and every path from a text to a step: no exception, and time that grows as the text does.

A text is a real call that was cut, repeated, spliced, nested or sprinkled with marks and numbers without end; or characters of any kind.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign_parts.cases import Case, Outcome
from steptool_env import FORMATS

__all__ = ["cases", "run"]

BATCH, BATCHES = 5000, 20
"""Texts of a case, and cases of each format: 100,000 texts each."""
LARGE, LONGEST = 1_000_000, 20.0
"""Characters of a large text, and the seconds that it may take: what is quadratic takes hours."""


def cases(seed: int) -> list[Case]:
    """Return batches of texts for every format, and large texts."""
    made = [(kind, f"batch {number}") for kind in (*sorted(FORMATS), "native") for number in range(BATCHES if kind != "native" else 40)]
    made += [("large texts", f"{name}/{form}") for name in _large() for form in sorted(FORMATS)]
    short = ("hermes", "pythonic", "native", "large texts/nested brackets/hermes", "large texts/nested brackets/pythonic")
    return [
        Case("texts", kind, name, seed + number, limit=600, short=(name == "batch 0" and kind in short) or f"{kind}/{name}" in short)
        for number, (kind, name) in enumerate(made)
    ]


def run(case: Case, work: Path) -> Outcome:
    """Send the texts down every path."""
    if case.kind == "large texts":
        name, _, form = case.name.partition("/")
        return _time(form, _large()[name]())
    rng, count = random.Random(case.seed), BATCH // 10 if case.short else BATCH
    paths = _native(rng) if case.kind == "native" else _paths(case.kind)
    counts: Counter[str] = Counter()
    for _ in range(count):
        text = _draw(rng, paths["render"])
        for name, path in paths.items():
            if name == "render":
                continue
            try:
                counts[path(text)] += 1
            except BaseException as fault:
                return Outcome(False, "raised", f"{name}: {text[:300]!r} raised {type(fault).__name__}: {str(fault)[:200]}", {"texts": counts.total()})
    return Outcome(True, "no exception", "", {"texts": count, **counts})


def _draw(rng: random.Random, render: Callable[[random.Random], str]) -> str:
    """Return a text that is nearly a call, or anything."""
    from fuzz import MARKS

    kind = rng.random()
    if kind < 0.1:  # any characters
        return "".join(
            chr(rng.choice((rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0xD7FF, 0xE001), rng.randrange(0x10FFFF))))
            for _ in range(rng.randrange(60))
        )
    text = render(rng)
    if kind < 0.15:  # deep
        depth = rng.choice((60, 64, 65, 66, 70, 200, 700, 1000, 2000, 10_000))
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ("(", ")"), ("<tool_call>", "</tool_call>"), ("a(x=", ")"), ('[{"a":[', "]}]")))
        middle = opening * depth + rng.choice(("", "1", '"x"')) + (closing * depth if rng.random() < 0.7 else "")
        return text.replace("O17", middle, 1) if "O17" in text else text + middle
    if kind < 0.2:  # huge numbers
        number = rng.choice(
            ("1" + "0" * 400, "-" + "9" * 5000, "1e400", "-1e-400", "0x" + "f" * 3000, "1_000", "٣", "NaN", "-Infinity", "1" * 4301, "1j", "0" * 500 + "1")
        )
        return text.replace("O17", number, 1) if "O17" in text else f"{text}{number}"
    for _ in range(rng.randrange(6)):
        place = rng.randrange(len(text) + 1)
        match rng.randrange(7):
            case 0:
                text = text[:place]
            case 1:
                text = text[:place] + rng.choice(MARKS) + text[place:]
            case 2:
                text = text[:place] + text[place + rng.randrange(1, 4) :]
            case 3:
                text = text + "\n" + render(rng)
            case 4:
                text = text[:place] + chr(rng.randrange(0x3000)) + text[place:]
            case 5:  # a piece of it once more, elsewhere
                text = text[:place] + text[rng.randrange(len(text) + 1) :][:40] + text[place:]
            case 6:
                text = text.swapcase() if rng.random() < 0.2 else text[place:] + text[:place]
    return text


# ---------------------------------------------------------------- the paths from a text to a step, a file, a later prompt
def _paths(form: str) -> dict[str, Callable[[Any], Any]]:
    from fuzz import render
    from transformers import AutoTokenizer

    from steptool_agents.chat.base import render_action
    from steptool_agents.chat.control import ControlTokens
    from steptool_agents.models.loading import TINY
    from steptool_agents.trajectory.messages import as_tool_calls
    from steptool_env import StepToolEnv, ToolCall, make_format, make_suite
    from steptool_env.errors import InvalidArgument
    from steptool_env.types import Message

    call_format, env = make_format(form), StepToolEnv(make_suite("jsonl", split="all"), "final", max_steps=50)
    env.reset(seed=0)
    control = ControlTokens(AutoTokenizer.from_pretrained(TINY))

    def step(text: str) -> str:
        action = call_format.parse(text)
        _, reward, terminated, truncated, info = env.step(action)
        assert reward == reward
        message = next(one for one in reversed(env.episode.messages) if one.role == "assistant")  # type: ignore[union-attr]
        render_action(message, call_format, control).encode("utf-8")
        json.dumps(as_tool_calls([message])).encode("utf-8")
        if terminated or truncated:
            env.reset()
        return info["tool_error"] or "ok"

    def again(text: str) -> str:
        """What was read can be written and read again, and is the same."""
        action = call_format.parse(text)
        if isinstance(action, ToolCall):
            try:
                written = call_format.render(action)
            except InvalidArgument:  # a name that the form cannot write
                return "not written"
            if call_format.parse(written) != action:
                raise AssertionError(f"{action!r} is read differently when it is written again")
        render_action(Message("assistant", text), call_format, control)
        return "read again" if isinstance(action, ToolCall) else "not a call"

    return {"render": lambda rng: render(rng, call_format), "step": step, "again": again}


def _native(rng: random.Random) -> dict[str, Callable[[Any], Any]]:
    from fuzz import draw_call

    from steptool_agents.trajectory.messages import as_tool_calls, read_tool_call
    from steptool_env import StepToolEnv, make_suite
    from steptool_env.types import Message

    env = StepToolEnv(make_suite("jsonl", split="all"), "final", max_steps=50)
    env.reset(seed=0)

    def step(text: str) -> str:
        place = rng.randrange(4)
        try:
            value = json.loads(text) if place > 1 else text
        except (ValueError, RecursionError):
            value = text
        function = {"name": text[:50] if place == 1 else "get_order", "arguments": value}
        action = read_tool_call({"content": text, "tool_calls": [{"function": function}] if place < 3 else value})
        _, reward, terminated, truncated, info = env.step(action)
        assert reward == reward
        if terminated or truncated:
            env.reset()
        json.dumps(as_tool_calls([Message("assistant", text)]))
        return info["tool_error"] or "ok"

    return {"render": lambda rng: json.dumps(dict(draw_call(rng).arguments)), "step": step}


# ---------------------------------------------------------------- large texts
def _large() -> dict[str, Callable[[], str]]:
    """Return name -> a text of a megabyte that something could read again and again."""
    n = LARGE
    return {
        "nested brackets": lambda: '{"name": "a", "arguments": {"x": ' + "[" * n,
        "nested objects": lambda: '{"a":' * (n // 5),
        "nested calls": lambda: "[a(x=" * (n // 5),
        "opening marks": lambda: "<tool_call>" * (n // 11) + "[TOOL_CALLS]" * 1000 + "<|python_tag|>" * 1000,
        "pairs of marks": lambda: "<tool_call></tool_call>" * (n // 23),
        "actions": lambda: "Action: a\nAction Input: {\n" * (n // 26),
        "quotes": lambda: '"' * n,
        "backslashes": lambda: '{"name": "' + "\\" * n,
        "white space": lambda: "<tool_call>" + " " * n + '{"name"',
        "white space and lines": lambda: "Action:" + " \n" * (n // 2),
        "digits": lambda: '{"name": "a", "arguments": {"x": ' + "9" * n + "}}",
        "a digit list": lambda: '<tool_call>{"name": "a", "arguments": {"x": [' + "1," * (n // 2) + "1]}}</tool_call>",
        "many calls": lambda: '<tool_call>{"name": "a", "arguments": {}}</tool_call>[a(x=1)]{"name": "a"};' * (n // 75),
        "many keys": lambda: '{"name": "a", "arguments": {' + ", ".join(f'"k{number}": 1' for number in range(n // 14)) + "}}",
        "commas": lambda: "[a(" + "," * n,
        "thoughts": lambda: "<think>" * (n // 14) + "</think>" * (n // 16),
        "signs": lambda: "[a(x=" + "-" * n + "1)]",
        "powers": lambda: "[a(x=" + "9**" * (n // 3) + "9)]",
        "sums": lambda: "[a(x=" + "'a'+" * (n // 4) + "'a')]",
    }


def _time(form: str, text: str) -> Outcome:
    paths = _paths(form)
    started = time.process_time()
    ending = paths["step"](text)
    seconds = time.process_time() - started
    if seconds > LONGEST:
        return Outcome(False, "slow", f"{seconds:.1f} s for {len(text):,} characters")
    return Outcome(True, "in time", ending, {"ms": int(1000 * seconds)})
