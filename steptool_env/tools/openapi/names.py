"""Names of tools that every function-calling API takes, one for each operation, whatever the document calls them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["distinct", "tool_name"]

_LONGEST = 64


def tool_name(candidates: Iterable[str]) -> str:
    """Return the first candidate that makes a name of 1 to 64 of ``a-z A-Z 0-9 _ -``; accents are dropped, other signs are ``_``."""
    for candidate in candidates:
        ascii_text = unicodedata.normalize("NFKD", candidate).encode("ascii", "ignore").decode()
        if name := re.sub(r"[^a-zA-Z0-9_-]+", "_", ascii_text).strip("_")[:_LONGEST].rstrip("_"):
            return name
    return "operation"


def distinct(names: Sequence[str], taken: Iterable[str] = (), longest: int = _LONGEST) -> list[str]:
    """Return the names, with a number behind those that are taken or stand twice, so that no two are the same.

    The first holder of a name keeps it: a number that is put behind another one never takes it away.
    """
    used, wanted = set(taken), set(names)
    result = []
    for name in names:
        fitting, number = name, 1
        while fitting in used or (number > 1 and fitting in wanted):
            number += 1
            fitting = f"{name[: longest - len(str(number)) - 1]}_{number}"
        used.add(fitting)
        result.append(fitting)
    return result
