"""``Toolkit``: the tools of one episode and the state behind them. Executing a call never raises for a model's mistake."""

from __future__ import annotations

import copy
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from steptool_env.actions import plain_call
from steptool_env.errors import InvalidArgument, ToolError, Unavailable, did_you_mean
from steptool_env.foreign import is_a, kind_of, message_of, shown
from steptool_env.jsontext import clean
from steptool_env.tools.author import tell_author
from steptool_env.tools.serialization import NoResult, as_text
from steptool_env.tools.tool import BadArguments, Tool, tool
from steptool_env.types import ERRORS, ToolCall, ToolResult

__all__ = ["FINISH", "Toolkit"]


@tool(timeout=None)
def finish(answer: str, give_up: bool = False) -> str:
    """End the task with the final answer.

    Args:
        answer: The final answer.
        give_up: True if the task cannot be solved.
    """
    return "The episode has ended."


FINISH: Tool = finish
"""The tool that ends an episode; every toolkit has it, or a tool of its own with the same name."""


_MOST = 500
"""Characters of an exception's message that a model reads."""


class Toolkit(Mapping[str, Tool]):
    """The tools on offer, by name, and the mutable state that stateful ones share.

    Args:
        tools: Tools, or typed functions, which are decorated with ``@tool``.
        state: What the tools act on. ``snapshot`` copies it with ``copy.deepcopy``; a custom ``__deepcopy__`` makes
            that cheap.
        max_result_chars: Longer results are cut, with a mark that says how long they were. (The budget of time is
            ``Tool.timeout``, that of depth ``jsontext.MAX_DEPTH``.)
    """

    def __init__(self, tools: Iterable[Tool | Callable[..., Any]], state: Any = None, *, max_result_chars: int = 20_000) -> None:
        self._tools: dict[str, Tool] = {}
        for source in tools:
            new_tool = source if isinstance(source, Tool) else tool(source)
            if new_tool.name in self._tools:
                raise InvalidArgument(f"two tools are called {new_tool.name!r}; names must differ")
            self._tools[new_tool.name] = new_tool
        self._tools.setdefault("finish", FINISH)
        self.state = state
        self.max_result_chars = max_result_chars
        self._schemas: str | None = None

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def schemas(self) -> str:
        """The function schemas of all tools on offer as text, a JSON list: what an observation holds under ``"tools"``.

        As dicts: ``json.loads(toolkit.schemas)``, or ``toolkit[name].schema`` of a single tool.
        """
        if self._schemas is None:
            self._schemas = f"[{', '.join(tool.schema_json for tool in self._tools.values())}]"
        return self._schemas

    @property
    def parameters(self) -> dict[str, Mapping[str, Any]]:
        """The JSON schema of the arguments of every tool on offer, by name."""
        return {name: tool.parameters for name, tool in self._tools.items()}

    def execute(self, call: ToolCall) -> ToolResult:
        """Check and run one call. Total: every mistake and every fault comes back as a result with an ``error``.

        Only Ctrl-C goes through. A call that timed out is left behind in its thread, where it may still act on the state.
        """
        if type(call) is not ToolCall or type(call.name) is not str or type(call.arguments) is not dict:
            name, arguments = plain_call(call)
            if arguments is None and name in self:
                return self._bad_arguments(self[name], "the arguments are no JSON object")
            call = ToolCall(name, arguments or {})
        return self.answer(call)

    def answer(self, call: ToolCall) -> ToolResult:
        """Do what ``execute`` says for a call whose name is a ``str`` and whose arguments are a ``dict``: what subclasses change."""
        arguments = call.arguments
        tool = self._tools.get(call.name)
        if tool is None:
            name, offered = call.name[:200], ", ".join(self._tools)
            return ToolResult(clean(f"Error: there is no tool {name!r}.{did_you_mean(name, self._tools)} Tools on offer: {offered}."), "unknown_tool")
        if fault := tool.check(arguments):
            return self._bad_arguments(tool, fault)
        error = ""
        try:
            if tool.timeout is not None:
                value = _with_timeout(tool, self.state, arguments)
            elif tool.stateful:
                value = tool.function(self.state, **arguments)
            else:
                value = tool.function(**arguments)
            if type(value) is str:  # by far the most frequent kind
                text = value
            else:
                if is_a(value, ToolResult):
                    error, value = _kind(value.error), value.content
                text = str.__str__(value) if is_a(value, str) else as_text(value, self.max_result_chars)
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # a tool is foreign code: whatever it raises, sys.exit() too, is an observation
            return self._failed(call, problem)
        if len(text) > self.max_result_chars:
            text = f"{text[: self.max_result_chars]} … [cut: {len(text)} characters in all]"
        return ToolResult(text if text.isascii() else clean(text), error)

    def may_wait(self, name: str) -> bool:
        """Return whether a call of this tool may take long, doing nothing: many of them had better run at the same time."""
        tool = self.get(name)
        return tool is not None and (tool.waits or tool.timeout is not None)

    def _failed(self, call: ToolCall, problem: BaseException) -> ToolResult:
        if is_a(problem, BadArguments):
            return self._bad_arguments(self[call.name], message_of(problem, _MOST))
        if is_a(problem, Unavailable):
            what, error = "is unavailable", "unavailable"
        elif is_a(problem, TimeoutError):
            what, error = "timed out", "transient"
        else:
            what = "failed" if is_a(problem, (NoResult, ToolError)) else f"failed: {kind_of(problem)}"
            error = "rejected" if is_a(problem, (ToolError, ValueError, LookupError)) else "tool_failed"
            if error == "tool_failed":
                tell_author(call.name, problem)
        return ToolResult(clean(f"Error: {call.name} {what}: {message_of(problem, _MOST)}"[: self.max_result_chars]), error)

    def _bad_arguments(self, tool: Tool, fault: str) -> ToolResult:
        # Short, because a model reads it at every such mistake; the full schema stands among the tools on offer.
        required = tool.parameters.get("required", ())
        names = [name if name in required else f"{name} (optional)" for name in tool.parameters.get("properties", {})]
        text = f"Error: wrong arguments for {tool.name}: {fault}. It takes: {', '.join(names) or 'none'}."
        return ToolResult(clean(text[: self.max_result_chars]), "bad_arguments")

    def snapshot(self) -> Any:
        """Return a copy of the state that later calls leave alone."""
        return copy.deepcopy(self.state)

    def restore(self, state: Any) -> None:
        """Go back to a state that ``snapshot`` returned; it can be restored again."""
        self.state = copy.deepcopy(state)


def _kind(error: Any) -> str:
    if is_a(error, str) and (kind := str.__str__(error)) in ERRORS:
        return kind
    raise NoResult(f"it returned a ToolResult whose error is {shown(error)}; the kinds are {', '.join(ERRORS[1:])}")


_Reply: TypeAlias = "queue.SimpleQueue[tuple[bool, Any]]"
_Calls: TypeAlias = "queue.SimpleQueue[tuple[Callable[[], Any], _Reply] | None]"


class _Worker:
    """A daemon thread that runs calls, one after the other. It ends, when its call does, once nobody holds the worker."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.calls: _Calls = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self.calls,), daemon=True, name="steptool-tool").start()

    def __del__(self) -> None:
        self.calls.put(None)


def _serve(calls: _Calls) -> None:
    while (item := calls.get()) is not None:
        call, reply = item
        try:
            reply.put((True, call()))
        except BaseException as fault:  # handed to the caller, which raises it
            reply.put((False, fault))
        del item, call, reply  # while it waits, the thread must not keep the last state alive


_workers = threading.local()
"""The worker of every thread that calls tools."""


def _with_timeout(tool: Tool, state: Any, arguments: Mapping[str, Any]) -> Any:
    worker: _Worker | None = getattr(_workers, "free", None)
    if worker is None or worker.process != os.getpid():  # a fork copies the worker, but not its thread
        worker = _Worker()
    _workers.free = None  # given back only when the reply is there: an interrupted or late call keeps its thread busy
    reply: _Reply = queue.SimpleQueue()
    worker.calls.put((lambda: tool.function(state, **arguments) if tool.stateful else tool.function(**arguments), reply))
    try:
        done, value = reply.get(timeout=tool.timeout)
    except queue.Empty:
        raise TimeoutError(f"no result within {tool.timeout:g} s") from None
    _workers.free = worker
    del worker  # the traceback of a fault that somebody keeps would keep its thread, too
    if not done:
        raise value
    return value
