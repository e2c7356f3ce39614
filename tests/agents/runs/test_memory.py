"""Memory that was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from steptool_agents.runs import memory

PROGRAM = """
import ctypes, sys
from pathlib import Path
from steptool_agents.runs.memory import give_back

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

blocks = [library.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
above = library.malloc(100_000)  # the heap shrinks from its top only
full = resident()
for block in blocks:
    library.free(block)
print(full - resident(), give_back(2**40), full - resident(), give_back(2**26), full - resident())
"""


def test_what_was_freed_below_other_blocks_is_given_back() -> None:
    if memory._glibc() is None:
        pytest.skip("no glibc that tells what it holds free")
    kept, asked_for_more, still_kept, asked, given = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert asked_for_more == "False"
    assert int(kept) < 10_000_000
    assert int(still_kept) < 10_000_000
    assert asked == "True"
    assert int(given) > 90_000_000


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert not memory.give_back(0)
