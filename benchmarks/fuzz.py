"""Does any text or action break the environment? Fuzzes every call format and every id, and counts the answers.

    python benchmarks/fuzz.py                  # 100,000 texts per call format, 100,000 actions per id
    python benchmarks/fuzz.py --count 2000 --seed 1

A text is a rendered call that was cut, repeated, spliced with others or sprinkled with marks and broken escapes; an action
is a call, or rubbish of any type. Each must be answered by an observation within the space, and a wrong one by a reason.
The program fails with the first input that raises.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from collections import Counter
from typing import Any

import gymnasium as gym

import steptool_env
from steptool_env import FORMATS, Malformed, ToolCall, make_format
from steptool_env.errors import InvalidArgument

MARKS = (
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|eot_id|>", "</s>", "Action:", "Action Input:"),
    *("<function=get_order>", "<parameter=order_id>", "</parameter>", "</function>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<invoke name="),
    *("<|channel|>", "analysis", "commentary to=functions.finish", "<|message|>", "<|call|>", "<|end|>", '<|"|>', "<|tool_call>call:f{", "<tool_call|>"),
    *("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<|tool_call_begin|>functions.f:0", "<|tool_call_argument_begin|>", "<function_calls>", "[THINK]", "```\n"),
    *("\nObservation", "{", "}", "[", "]", "(", ")", '"', "'", "\\", "\\u", "\\ud800", ",", ":", "=", "**", "\n", "\0", "\ud800", "é😀", "globals()["),
    *("NaN", "1e999", "9" * 400, "[" * 300, '{"a":' * 300, "null", "True", '{"name": ', '"arguments": ', "finish", "get_order", " " * 50),
)


DIALS: dict[str, Any] = {"families": ("lookup", "change"), "domains": ("shop", "travel")}
"""Tasks in which the names of tools that are drawn occur, and whose calls the discrete form can make."""


def draw_call(rng: random.Random) -> ToolCall:
    """Return a call with arguments of any JSON type."""
    names = ("finish", "get_order", "get_trip", "get order", "é", "", "a.b", "x" * 50)
    keys = ("answer", "order_id", "trip_id", "", "weird key", "é", '"')
    return ToolCall(rng.choice(names), {rng.choice(keys): draw_json(rng, 0) for _ in range(rng.randrange(4))})


def render(rng: random.Random, form: Any) -> str:
    """Return the text of a drawn call whose names the form can write."""
    while True:
        with contextlib.suppress(InvalidArgument):
            return str(form.render(draw_call(rng)))


def draw_json(rng: random.Random, depth: int) -> Any:
    """Return a JSON value."""
    kind = rng.randrange(9 if depth < 3 else 7)
    if kind == 7:
        return [draw_json(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 8:
        return {rng.choice(("a", "b", "é", "")): draw_json(rng, depth + 1) for _ in range(rng.randrange(3))}
    return rng.choice((None, True, rng.randrange(-5, 5), rng.random(), "O17", "".join(rng.choice(MARKS) for _ in range(3)).replace("\ud800", ""), "x" * 30))


def draw_text(rng: random.Random, form: Any) -> str:
    """Return a text that is nearly, or quite, a call."""
    text = render(rng, form)
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0:
                text = text[:place]
            case 1:
                text = text[:place] + rng.choice(MARKS) + text[place:]
            case 2:
                text = text[:place] + text[place + rng.randrange(1, 4) :]
            case 3:
                text = text + "\n" + render(rng, form)
            case 4:
                text = text[:place] + chr(rng.randrange(0x3000)) + text[place:]
    return str(text)


def draw_action(rng: random.Random, actions: int | None) -> Any:
    """Return an action for StepTool-v0, or for the discrete id with so many actions."""
    calls = ({"name": 3}, {"name": "finish", "arguments": {1: 2}}, Malformed("x", "a reason of its own"))
    rubbish = (None, rng.random(), "x", b"x", [], {}, object(), float("nan"), 10**5000, *calls)
    if rng.random() < 0.2:
        return rng.choice(rubbish)
    if actions is not None:
        return rng.randrange(-2, actions + 2)
    call = draw_call(rng)
    return rng.choice((call.as_dict(), call, {"name": call.name}, {"name": call.name, "arguments": {"x": {1}}}))


def play(env: Any, count: int, draw: Any) -> Counter[str]:
    """Play ``count`` drawn actions and count the kinds of answers; raises with the input that was not answered as it should be."""
    kinds: Counter[str] = Counter()
    env.reset(seed=0)
    for number in range(count):
        action = draw()
        try:
            observation, reward, terminated, truncated, info = env.step(action)
            assert reward == reward and info["tool_error"] in steptool_env.ERRORS
            assert number % 100 or env.observation_space.contains(observation)
            answer = env.unwrapped.episode.messages[-1].content
            assert not info["tool_error"] or len(answer) > 10, f"no reason was given: {answer!r}"
        except Exception as fault:
            raise SystemExit(f"{env.spec.id}: {action!r} raised {fault!r}") from fault
        kinds[info["tool_error"] or "ok"] += 1
        if terminated or truncated:
            env.reset()
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="texts per call format and actions per id (default: 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    sys.set_int_max_str_digits(4300)
    results = []
    forms: list[tuple[str, dict[str, Any]]] = [*(("StepToolText-v0", {"call_format": form}) for form in FORMATS), ("StepTool-v0", {})]
    for name, options in (*forms, *(("StepToolDiscrete-v0", {"replies": replies}) for replies in ("record", "field"))):
        env = gym.make(name, suite="worlds", level=1, size=50, **DIALS, **options)
        rng = random.Random(arguments.seed)
        if name == "StepToolText-v0":
            form = make_format(options["call_format"])
            draw: Any = lambda rng=rng, form=form: draw_text(rng, form)  # noqa: E731
        else:
            actions = int(env.action_space.n) if name == "StepToolDiscrete-v0" else None
            draw = lambda rng=rng, actions=actions: draw_action(rng, actions)  # noqa: E731
        start = time.process_time()
        kinds = play(env, arguments.count, draw)
        row = {"id": name, **options, "inputs": arguments.count, "seconds": round(time.process_time() - start, 1), "answers": dict(kinds.most_common())}
        results.append(row)
        if not arguments.json:
            print(f"{' '.join([name, *options.values()]):<26} {arguments.count:>8,} inputs, {row['seconds']:>6.1f} s: {row['answers']}", flush=True)
    if arguments.json:
        print(json.dumps({"benchmark": "fuzz", "results": results}))


if __name__ == "__main__":
    main()
