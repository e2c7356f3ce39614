"""Memory between the phases of a run: what learning has freed goes back to the system before the next episodes are played."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["give_back"]


class _Info(ctypes.Structure):
    """``struct mallinfo2`` of glibc; ``fordblks`` is what it holds free, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def give_back(least: int = 2**30) -> bool:
    """Let the C library return to the system what it holds free; return whether it was asked to.

    glibc keeps blocks of up to 32 MB when they are freed, and returns them only from the top of its heap. The tensors of a pass through a
    pretrained model are of this size, so after the first update a run would hold what learning needs while it plays, and the sum of both in
    the evaluation at its end. Other C libraries are left alone. Source: malloc_trim(3), mallopt(3).

    Args:
        least: Nothing is done while less is free, in bytes: to get memory again costs a little time, which a small model would notice.
    """
    library = _glibc()
    if library is None or library.mallinfo2().fordblks < least:
        return False
    library.malloc_trim(0)
    return True


@cache
def _glibc() -> Any:
    """Return glibc; None where there is another C library, or one that does not tell what it holds (before 2.33)."""
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _Info
    return library
