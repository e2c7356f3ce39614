"""Names of parametrized tests. Every process of pytest-xdist must find the same ones, so they hold no addresses."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """Return ``str(value)`` without the address of an object."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
