"""``StepToolText-v0``: the action is the raw text of a model, which a call format reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from steptool_env.actions import ReadAction
from steptool_env.actions import read as read_action
from steptool_env.foreign import is_a, kind_of
from steptool_env.formats import CallFormat, Form, Reading, check_tools, make_format, read
from steptool_env.rewards import RewardShaper
from steptool_env.spaces import TextSpace, ToolCallSpace, observation_space
from steptool_env.tasks import TaskSuite
from steptool_env.types import Malformed, Message, Observation, ToolCall, new_tuple
from steptool_env.wrappers.base import OtherForm

__all__ = ["CallTextSpace", "StepToolTextEnv"]


_NOTHING = Reading(Malformed("", ""), "", 0)
_MOST_KNOWN = 256
"""So many lists of tools are remembered as checked."""


class CallTextSpace(TextSpace):
    """All texts. A sample is a valid call of a tool on offer, written in the call format."""

    def __init__(self, calls: ToolCallSpace, call_format: CallFormat) -> None:
        super().__init__()
        self.calls, self.call_format = calls, call_format

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        self.calls._np_random = self.np_random  # one generator: seeding this space seeds its samples
        call = self.calls.sample()
        return self.call_format.render(ToolCall(call["name"], call["arguments"]))


class StepToolTextEnv(OtherForm[Observation, str]):
    """Multi-step tool use, played in text: ``step`` takes what a model wrote.

    The first call in the text is executed. What stands before it is reasoning, which goes to ``info["reasoning"]`` and
    not into the transcript. Further calls in the same text are not executed, and the result of the first one says so.
    A text without a readable call is answered by an error that says what was expected. Slips that can mean one thing only
    are forgiven and named, see ``steptool_env.REPAIRS``.

    Observation, reward, end and info are those of ``StepToolEnv``; info has ``reasoning`` (str), ``further_calls``
    (int, how many calls were not executed) and ``repaired`` (tuple of str, the slips that were forgiven) as well.

    Args:
        suite: Name of a suite, or a ``TaskSuite``.
        shaper: Name of a shaper, or a callable.
        call_format: Name of a call format, or a ``CallFormat``.
        strict: Forgive nothing: a call that needs repairs is malformed.
        max_steps: Overrides the step budget of every task.
        render_mode: As in ``StepToolEnv``.
        suite_options: Passed to the suite when it is given by name.

    Raises:
        InvalidArgument: At ``reset``: the call format cannot write the name of a tool on offer.
    """

    action_space: CallTextSpace

    def __init__(
        self,
        suite: str | TaskSuite = "worlds",
        shaper: str | RewardShaper = "steptool",
        *,
        call_format: str | CallFormat = "hermes",
        strict: bool = False,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **suite_options: Any,
    ) -> None:
        super().__init__(suite, shaper, max_steps=max_steps, render_mode=render_mode, **suite_options)
        self.call_format = make_format(call_format)
        self.observation_space = observation_space()  # type: ignore[assignment]  # a Dict space knows no TypedDict
        self.action_space = CallTextSpace(self.core.action_space, self.call_format)
        self.strict = strict
        self._own_calls = isinstance(self.call_format, Form)  # somebody else's format may keep the calls that it returns
        self._reading = _NOTHING
        self._tools: tuple[Mapping[str, Any], ...] = ()
        self._offered = ""
        self._known: set[str] = set()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; arguments as in ``StepToolEnv.reset``."""
        self._reading = _NOTHING
        return super().reset(seed=seed, options=options)

    def instructions(self) -> str:
        """Return the system text that tells a model which tools there are now and how to call them."""
        self._offer()
        return self.call_format.instructions(self._tools)

    def _offer(self) -> None:
        """See which tools are on offer now, and whether the call format can write their names."""
        toolkit = self.core._running().toolkit
        schemas = toolkit.schemas
        if schemas != self._offered:
            tools = tuple(tool.schema for tool in toolkit.values())
            if schemas not in self._known:
                check_tools(self.call_format, tools)
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known.add(schemas)
            self._tools = tools
        self._offered = schemas

    def _convert_action(self, action: Any) -> Any:
        if type(action) is not str:
            if not is_a(action, str):
                self._reading = _NOTHING
                return Malformed(f"<{kind_of(action)}>", f"expected the text of a reply, got {kind_of(action)}")
            action = str.__str__(action)
        self._reading = reading = read(self.call_format, action, tools=self._tools, strict=self.strict)
        call = reading.action
        return new_tuple(ReadAction, read_action(call, True)) if type(call) is ToolCall and self._own_calls else call

    def _convert_observation(self, observation: Observation, info: dict[str, Any]) -> Observation:
        _, info["reasoning"], further, info["repaired"] = self._reading
        info["further_calls"] = further
        if observation["tools"] is not self._offered:
            self._offer()
        if further and info["tool_error"] != "over_budget":
            episode = self.core._running()
            last = episode.messages[-1]
            skipped = "another call" if further == 1 else f"{further} further calls"
            note = f"[Only the first call of the reply was executed; {skipped} in it had no effect. Make one call per reply.]"
            episode.messages = (*episode.messages[:-1], Message(last.role, f"{last.content}\n{note}"))
            self.core.action_space.see(episode.messages)
            return {"messages": episode.messages, "tools": observation["tools"]}
        return observation

    def _restore_form_state(self, memory: Any) -> None:
        self._reading = _NOTHING
        self._offer()

    def _fresh(self) -> Self:
        return type(self)(self.suite, self.shaper, call_format=self.call_format, strict=self.strict, max_steps=self.max_steps, render_mode=self.render_mode)
