"""Time and memory of the phases of an update, in the process that does it. Needs no package, so that every peer can be measured with it."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

__all__ = ["Meter", "status"]


def status(name: str) -> int:
    """Return a figure of this process as Linux tells it, such as ``VmRSS`` or ``VmHWM``, in KiB."""
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)).split()[1])


class Meter:
    """Adds up what each phase takes; peaks are above what the process held when its meter was made, with the model loaded."""

    def __init__(self) -> None:
        _give_back()
        self.loaded_mb = status("VmRSS") / 1024
        self._phases: dict[str, dict[str, float]] = {}
        self._phase = ""
        self._since = (0.0, 0.0)

    def enter(self, phase: str) -> None:
        """Count what follows to a phase; ``""``: to none."""
        seconds, processor = time.perf_counter() - self._since[0], time.process_time() - self._since[1]
        if self._phase:
            one = self._of_phase()
            one["seconds"] += seconds
            one["processor"] += processor
            one["peak_mb"] = max(one["peak_mb"], status("VmHWM") / 1024 - self.loaded_mb)
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")  # forgets their peak
        self._phase, self._since = phase, (time.perf_counter(), time.process_time())

    def count(self, tokens: int) -> None:
        """Add tokens that the model has read to the phase."""
        if self._phase:
            self._of_phase()["tokens"] += tokens

    def _of_phase(self) -> dict[str, float]:
        return self._phases.setdefault(self._phase, {"seconds": 0.0, "processor": 0.0, "peak_mb": 0.0, "tokens": 0})

    def take(self) -> dict[str, dict[str, float]]:
        """End the phase; return phase -> ``seconds``, ``processor`` (seconds of all threads), ``peak_mb``, ``tokens``, and start over."""
        self.enter("")
        found, self._phases = self._phases, {}
        return found


def _give_back() -> None:
    """Let the C library give back what was freed before."""
    ctypes.CDLL(None).malloc_trim(0)
