"""Simulated failures and latency on top of any toolkit: what a policy meets in the world, at a rate that you choose.

Whether a call fails is drawn from a seed, the call and how often it was made, so that an episode meets the same faults
whatever runs beside it, and a call that is made again may succeed.
"""

from __future__ import annotations

import copy
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.tools.recording import canonical
from steptool_env.tools.toolkit import Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import ToolCall, ToolResult

__all__ = ["FaultyToolkit"]

_KINDS = {
    "unavailable": "Error: {name} is unavailable: a simulated failure of the service.",
    "transient": "Error: {name} failed: the service did not answer; try again.",
    "tool_failed": "Error: {name} failed: a simulated mistake of the tool's author.",
}


@dataclass
class _State:
    """The state beside the inner toolkit's own."""

    times: dict[str, int] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)


class FaultyToolkit(WrappedToolkit):
    """A toolkit whose calls take longer and sometimes fail; a failed call does not reach the tool.

    Args:
        inner: What answers the other calls.
        rate: Share of the calls that fail, in [0, 1]. ``finish`` never fails.
        error: How: ``"transient"`` (the model may try again), ``"tool_failed"`` (the same, by a fault of the tool's author) or ``"unavailable"``
            (the episode is masked).
        latency: Seconds that every call takes before anything happens.
        seed: The same seed brings the same faults.
    """

    def __init__(self, inner: Toolkit, *, rate: float = 0.0, error: str = "transient", latency: float = 0.0, seed: int | str = 0) -> None:
        self.check(rate, latency)
        if error not in _KINDS:
            raise InvalidArgument(f"error must be one of {', '.join(_KINDS)}, got {error!r}")
        super().__init__(inner)
        self.rate, self.error, self.latency, self.seed = rate, error, latency, seed
        self.faults = _State()

    @staticmethod
    def check(rate: float, latency: float = 0.0) -> None:
        """Raise ``InvalidArgument`` if the rate is not in [0, 1] or the latency is negative or infinite."""
        if not 0 <= rate <= 1 or not 0 <= latency < float("inf"):
            raise InvalidArgument(f"rate must lie in [0, 1] and latency be seconds from 0, got {rate!r} and {latency!r}")

    @property
    def injected(self) -> Counter[str]:
        """How many failures were injected in this episode, by tool."""
        return self.faults.injected

    def answer(self, call: ToolCall) -> ToolResult:
        if call.name == "finish" or call.name not in self.inner:
            return self.inner.execute(call)  # a tool that does not exist cannot fail: that is the model's mistake
        if self.latency:
            time.sleep(self.latency)
        if self.rate and self._fails(call):
            self.faults.injected[call.name] += 1
            return ToolResult(_KINDS[self.error].format(name=call.name), self.error)
        return self.inner.execute(call)

    def may_wait(self, name: str) -> bool:
        return (self.latency > 0 and name != "finish") or self.inner.may_wait(name)

    def _fails(self, call: ToolCall) -> bool:
        try:
            key = f"{call.name}{canonical(call.arguments)}"
        except ValueError:
            return False  # it would not have reached the tool anyway
        times = self.faults.times[key] = self.faults.times.get(key, 0) + 1
        return random.Random(f"{self.seed}/{times}/{key}").random() < self.rate

    def snapshot(self) -> Any:
        return self.inner.snapshot(), copy.deepcopy(self.faults)

    def restore(self, state: Any) -> None:
        self.inner.restore(state[0])
        self.faults = copy.deepcopy(state[1])
