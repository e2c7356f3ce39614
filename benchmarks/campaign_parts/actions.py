"""Actions that are no actions, and tools that are no tools: objects whose every method raises or lies, what is huge, deep, or not finite."""

from __future__ import annotations

import random
import sys
from collections import Counter, UserDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from campaign_parts.cases import Case, Outcome

__all__ = ["cases", "run"]

BATCH, BATCHES = 5000, 12
"""Actions of a case, and cases of ``step`` and of ``execute``: more than 100,000 in all."""


def cases(seed: int) -> list[Case]:
    """Return batches of actions and of tools."""
    return [Case("actions", kind, f"batch {number}", seed + number, limit=600) for kind in ("evil actions", "evil tools") for number in range(BATCHES)]


def run(case: Case, work: Path) -> Outcome:
    """Step with the actions, or execute calls of the tools."""
    rng = random.Random(case.seed)
    return (_actions if case.kind == "evil actions" else _tools)(rng, BATCH)


# ---------------------------------------------------------------- evil objects
def _raise(kind: type[BaseException]) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> Any:
        raise kind("evil")

    return method


_METHODS = (
    *(
        "__repr__",
        "__str__",
        "__eq__",
        "__hash__",
        "__bool__",
        "__len__",
        "__iter__",
        "__getitem__",
        "__contains__",
        "__class__",
        "__getattribute__",
        "__dict__",
    ),
    *(
        "__format__",
        "__index__",
        "__int__",
        "__float__",
        "keys",
        "items",
        "get",
        "__copy__",
        "__deepcopy__",
        "__reduce__",
        "__reduce_ex__",
        "__instancecheck__",
    ),
)
_FAULTS = (
    ValueError,
    RuntimeError,
    RecursionError,
    MemoryError,
    AttributeError,
    KeyError,
    StopIteration,
    SystemExit,
    GeneratorExit,
    UnicodeError,
    OverflowError,
)


def evil(rng: random.Random, base: type = object) -> Any:
    """Return an object of a new class, some of whose methods raise, or return what they should not."""
    kind = rng.choice(_FAULTS)
    body: dict[str, Any] = {}
    for name in rng.sample(_METHODS, rng.randrange(1, 6)):
        if name == "__class__":
            body[name] = property(_raise(kind)) if rng.random() < 0.5 else rng.choice((dict, str, int))
        elif name == "__dict__":
            continue
        elif rng.random() < 0.7:
            body[name] = _raise(kind)
        else:
            value = rng.choice((None, -1, 10**30, "x", object(), b"x"))
            body[name] = lambda *_, value=value, **__: value
    body.pop("__hash__", None) if base is not object else None
    made = type("Evil", (base,), body)
    try:
        return made(rng.choice(({"name": "a", "arguments": {}}, {}))) if base in (dict, UserDict) else made("finish") if base is str else made()
    except BaseException:  # its own methods may already end its making
        return object()


def _value(rng: random.Random, depth: int = 0) -> Any:
    """Return an argument: evil, huge, deep, not finite, of another type, or plain."""
    choices: tuple[Callable[[], Any], ...] = (
        *(lambda: rng.choice((None, True, 0, -1, 1.5, "", "x", b"x", 1j, ..., NotImplemented, int, len, {1}, frozenset({1}), range(3), (1, 2))),) * 3,
        lambda: rng.choice((float("nan"), float("inf"), -float("inf"), 10**400, -(10**5000), 1e308, 2**64)),
        lambda: rng.choice(("\ud800", "\0", "\x1b[2J", "é" * 10, "x" * 100_000, "\u2028", "\U0010ffff")),
        lambda: evil(rng, rng.choice((object, dict, str, UserDict, list, int, float))),
        lambda: _deep(rng.choice((10, 64, 65, 70, 500, 5000)), rng.random() < 0.5),
        lambda: _circle(),
        lambda: [_value(rng, depth + 1) for _ in range(rng.randrange(4))] if depth < 3 else [],
        lambda: {_key(rng): _value(rng, depth + 1) for _ in range(rng.randrange(4))} if depth < 3 else {},
        lambda: [0] * 50_000,
        lambda: (number for number in range(3)),
    )
    return rng.choice(choices)()


def _key(rng: random.Random) -> Any:
    return rng.choice(("answer", "order_id", "", "é", "\ud800", 1, None, (1, 2), 1.5, True, b"x", "x" * 1000))


def _deep(depth: int, as_dict: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if as_dict else [value]
    return value


def _circle() -> Any:
    circle: list[Any] = []
    circle.append({"a": circle})
    return circle


class _Lazy(Mapping[str, Any]):
    """A mapping that changes its mind."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def __getitem__(self, key: str) -> Any:
        if self.rng.random() < 0.3:
            raise self.rng.choice(_FAULTS)("evil")
        return _value(self.rng, 2)

    def __iter__(self) -> Any:
        return iter(("name", "arguments")[: self.rng.randrange(3)])

    def __len__(self) -> int:
        return self.rng.choice((0, 2, 5))


def action(rng: random.Random) -> Any:
    """Return what is passed to ``step``."""
    from steptool_env import Malformed, ToolCall
    from steptool_env.types import Unanswered

    names = ("finish", "get_order", "", "é", "\ud800", "x" * 10_000, 3, None, evil(rng, str), ["finish"])
    arguments: Any = {_key(rng): _value(rng) for _ in range(rng.randrange(3))} if rng.random() < 0.6 else _value(rng)
    match rng.randrange(8):
        case 0:
            return _value(rng)
        case 1:
            return evil(rng, rng.choice((object, dict, UserDict, str, int)))
        case 2:
            return _Lazy(rng)
        case 3:
            return rng.choice((Malformed, Unanswered))(_value(rng, 2), _value(rng, 2))
        case 4:
            return ToolCall(rng.choice(names), arguments)  # type: ignore[arg-type]
        case 5:
            return {"name": rng.choice(names), "arguments": arguments, _key(rng): _value(rng, 2)}
        case _:
            return {"name": rng.choice(names), "arguments": arguments}


def _actions(rng: random.Random, count: int) -> Outcome:
    from steptool_env import ERRORS, StepToolEnv, make_suite

    env, counts = StepToolEnv(make_suite("jsonl", split="all"), "steptool", max_steps=20), Counter[str]()
    env.reset(seed=0)
    wrong: Counter[str] = Counter()
    for _ in range(count):
        given = action(rng)
        try:
            observation, reward, terminated, truncated, info = env.step(given)
            if reward != reward or info["tool_error"] not in ERRORS or not all(type(text) is str for text in observation["messages"][-1]):
                wrong[f"an answer outside of the space: {reward!r}, {info['tool_error']!r}"] += 1
            observation["messages"][-1].content.encode("utf-8")
            counts[info["tool_error"] or "ok"] += 1
            if terminated or truncated:
                env.reset()
        except BaseException as fault:
            wrong[_where(fault)] += 1
            env.reset()
    return _judged(wrong, counts, count)


# ---------------------------------------------------------------- evil tools
def _fault(rng: random.Random) -> BaseException:
    """Return an exception that is hard to tell about."""
    methods: dict[str, Any] = {name: _raise(rng.choice(_FAULTS)) for name in rng.sample(("__str__", "__repr__", "__class__", "__eq__"), rng.randrange(4))}
    if "__class__" in methods:
        methods["__class__"] = property(methods["__class__"])
    if rng.random() < 0.2:
        methods["__str__"] = lambda self: rng.choice((None, 3, "x" * 1_000_000, "\ud800"))
    base = rng.choice((*_FAULTS, TimeoutError, LookupError, PermissionError, BaseException, Exception))
    return type("EvilFault", (base,), methods)("evil")


def _tools(rng: random.Random, count: int) -> Outcome:
    from steptool_env import ERRORS, ToolCall, Toolkit, ToolResult, tool
    from steptool_env.errors import StepToolError

    def behave(x: Any = None) -> Any:
        match rng.randrange(6):
            case 0:
                raise _fault(rng)
            case 1:
                return ToolResult(rng.choice(("x", _value(rng))), rng.choice(("", "timeout", "no such kind", "x" * 1000, 3, None, evil(rng, str))))  # type: ignore[arg-type]
            case 2:
                return evil(rng, rng.choice((object, dict, str, list, int, float)))
            case 3:
                sys.exit(rng.choice((0, 1, "x")))
            case _:
                return _value(rng)

    behave.__doc__ = "Do evil."
    toolkit, counts, wrong = Toolkit([tool(behave)]), Counter[str](), Counter[str]()
    for _ in range(count):
        given = rng.choice(({}, {"x": 1}, {"x": "é"}))
        try:
            result = toolkit.execute(ToolCall("behave", given))
            if result.error not in ERRORS or type(result.content) is not str:
                wrong[f"a result outside of the kinds: {type(result.content).__name__}, {result.error!r:.60}"] += 1
            else:
                result.content.encode("utf-8")
                counts[result.error or "ok"] += 1
        except StepToolError as fault:
            wrong[f"{type(fault).__name__}: {fault}"[:200]] += 1
        except BaseException as fault:
            wrong[_where(fault)] += 1
    return _judged(wrong, counts, count)


def _where(fault: BaseException) -> str:
    """Return where an exception came from, without asking it."""
    trace, last = fault.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "steptool" in file and "campaign" not in file.rpartition("/")[2]:
            last = f"{file.rpartition('/')[2]}:{trace.tb_lineno} {trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return f"{type(fault).__name__} at {last}"


def _judged(wrong: Counter[str], counts: Counter[str], count: int) -> Outcome:
    if wrong:
        return Outcome(False, "raised", "; ".join(f"{times} × {what}" for what, times in wrong.most_common(8)), {"tried": count, **counts})
    return Outcome(True, "no exception", "", {"tried": count, **counts})
