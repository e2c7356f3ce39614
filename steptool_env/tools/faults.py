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
    down: set[str] = field(default_factory=set)
    known: dict[str, ToolResult] = field(default_factory=dict)


class FaultyToolkit(WrappedToolkit):
    """A toolkit whose calls take longer and sometimes fail; a failed call does not reach the tool.

    Args:
        inner: What answers the other calls.
        rate: Share of the calls that fail, in [0, 1]. ``finish`` never fails.
        error: How: ``"transient"`` (the model may try again), ``"tool_failed"`` (the same, by a fault of the tool's author) or ``"unavailable"``
            (the episode is masked).
        latency: Seconds that every call takes before anything happens.
        lasting: Share of the failures after which the tool fails for the rest of the episode: to try again does not help, another tool may.
        stale: Share of the calls that get what the same call got before, without a word that it is old, as from a cache.
        seed: The same seed brings the same faults.
    """

    def __init__(
        self,
        inner: Toolkit,
        *,
        rate: float = 0.0,
        error: str = "transient",
        latency: float = 0.0,
        lasting: float = 0.0,
        stale: float = 0.0,
        seed: int | str = 0,
    ) -> None:
        self.check(rate, latency, lasting, stale)
        if error not in _KINDS:
            raise InvalidArgument(f"error must be one of {', '.join(_KINDS)}, got {error!r}")
        super().__init__(inner)
        self.rate, self.error, self.latency, self.lasting, self.stale, self.seed = rate, error, latency, lasting, stale, seed
        self.faults = _State()

    @staticmethod
    def check(rate: float, latency: float = 0.0, lasting: float = 0.0, stale: float = 0.0) -> None:
        """Raise ``InvalidArgument`` if a share is not in [0, 1] or the latency is negative or infinite."""
        for name, share in {"rate": rate, "lasting": lasting, "stale": stale}.items():
            if not 0 <= share <= 1:
                raise InvalidArgument(f"{name} must lie in [0, 1], got {share!r}")
        if not 0 <= latency < float("inf"):
            raise InvalidArgument(f"latency must be seconds from 0, got {latency!r}")

    @property
    def injected(self) -> Counter[str]:
        """How many failures were injected in this episode, by tool."""
        return self.faults.injected

    def answer(self, call: ToolCall) -> ToolResult:
        if call.name == "finish" or call.name not in self.inner:
            return self.inner.execute(call)  # a tool that does not exist cannot fail: that is the model's mistake
        if self.latency:
            time.sleep(self.latency)
        key = self._key(call) if self.rate or self.stale else None
        if key is None:
            return self.inner.execute(call)
        times = self.faults.times[key] = self.faults.times.get(key, 0) + 1
        drawn = random.Random(f"{self.seed}/{times}/{key}")
        if drawn.random() < self.rate or call.name in self.faults.down:
            self.faults.injected[call.name] += 1
            if drawn.random() < self.lasting:
                self.faults.down.add(call.name)
            return ToolResult(_KINDS[self.error].format(name=call.name), self.error)
        if key in self.faults.known and drawn.random() < self.stale:
            return self.faults.known[key]
        result = self.inner.execute(call)
        if self.stale and not result.error:
            self.faults.known[key] = result
        return result

    def may_wait(self, name: str) -> bool:
        return (self.latency > 0 and name != "finish") or self.inner.may_wait(name)

    @staticmethod
    def _key(call: ToolCall) -> str | None:
        try:
            return f"{call.name}{canonical(call.arguments)}"
        except ValueError:
            return None  # it will not reach the tool anyway

    def snapshot(self) -> Any:
        return self.inner.snapshot(), copy.deepcopy(self.faults)

    def restore(self, state: Any) -> None:
        self.inner.restore(state[0])
        self.faults = copy.deepcopy(state[1])
