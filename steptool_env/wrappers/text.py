"""``StepToolText-v0``: the action is the raw text of a model, which a call format reads."""

from __future__ import annotations

from typing import Any, Self

from steptool_env.foreign import is_a, kind_of
from steptool_env.formats import CallFormat, make_format, read
from steptool_env.rewards import RewardShaper
from steptool_env.spaces import TextSpace, ToolCallSpace, observation_space
from steptool_env.tasks import TaskSuite
from steptool_env.types import Malformed, Message, Observation, ToolCall
from steptool_env.wrappers.base import OtherForm

__all__ = ["CallTextSpace", "StepToolTextEnv"]


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
    A text without a readable call is answered by an error that says what was expected.

    Observation, reward, end and info are those of ``StepToolEnv``; info has ``reasoning`` (str) and ``further_calls``
    (int, how many calls were not executed) as well.

    Args:
        suite: Name of a suite, or a ``TaskSuite``.
        shaper: Name of a shaper, or a callable.
        call_format: Name of a call format, or a ``CallFormat``.
        max_steps: Overrides the step budget of every task.
        render_mode: As in ``StepToolEnv``.
        suite_options: Passed to the suite when it is given by name.
    """

    action_space: CallTextSpace

    def __init__(
        self,
        suite: str | TaskSuite = "worlds",
        shaper: str | RewardShaper = "steptool",
        *,
        call_format: str | CallFormat = "hermes",
        max_steps: int | None = None,
        render_mode: str | None = None,
        **suite_options: Any,
    ) -> None:
        super().__init__(suite, shaper, max_steps=max_steps, render_mode=render_mode, **suite_options)
        self.call_format = make_format(call_format)
        self.observation_space = observation_space()  # type: ignore[assignment]  # a Dict space knows no TypedDict
        self.action_space = CallTextSpace(self.core.action_space, self.call_format)
        self._reasoning, self._further = "", 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; arguments as in ``StepToolEnv.reset``."""
        self._reasoning, self._further = "", 0
        return super().reset(seed=seed, options=options)

    def instructions(self) -> str:
        """Return the system text that tells a model which tools there are now and how to call them."""
        toolkit = self.core._running().toolkit
        return self.call_format.instructions([tool.schema for tool in toolkit.values()])

    def _convert_action(self, action: Any) -> Any:
        if not is_a(action, str):
            self._reasoning, self._further = "", 0
            return Malformed(f"<{kind_of(action)}>", f"expected the text of a reply, got {kind_of(action)}")
        reading = read(self.call_format, str.__str__(action))
        self._reasoning, self._further = reading.reasoning, reading.further
        return reading.action

    def _convert_observation(self, observation: Observation, info: dict[str, Any]) -> Observation:
        info["reasoning"], info["further_calls"] = self._reasoning, self._further
        if self._further and info["tool_error"] != "over_budget":
            episode = self.core._running()
            last = episode.messages[-1]
            skipped = "another call" if self._further == 1 else f"{self._further} further calls"
            note = f"[Only the first call of the reply was executed; {skipped} in it had no effect. Make one call per reply.]"
            episode.messages = (*episode.messages[:-1], Message(last.role, f"{last.content}\n{note}"))
            self.core.action_space.see(episode.messages)
            return {"messages": episode.messages, "tools": observation["tools"]}
        return observation

    def _restore_form_state(self, memory: Any) -> None:
        self._reasoning, self._further = "", 0

    def _fresh(self) -> Self:
        return type(self)(self.suite, self.shaper, call_format=self.call_format, max_steps=self.max_steps, render_mode=self.render_mode)
