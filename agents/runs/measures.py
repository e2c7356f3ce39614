"""A user's own metrics, logged beside those of the run."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steptool_env import reference
from steptool_env.errors import InvalidArgument

from ..trajectory import Trajectory

__all__ = ["own_measure"]

Measure = Callable[[Sequence[Trajectory], Mapping[str, float]], dict[str, float]]


def own_measure(name: str) -> Measure | None:
    """Return the function that computes the user's metrics; it takes the episodes of an update and what the run has measured.

    Args:
        name: ``"module:function"``, ``"path/to/file.py"`` (its function ``measure``), ``"path/to/file.py:function"``, or ``""`` for none. The
            function takes the episodes, a list of ``Trajectory``, and returns a mapping of names to numbers; NaN says that there is none.

    Raises:
        InvalidArgument: There is no such function; or, when it is called, it returns something else, or a name that the run logs itself.
    """
    if not name:
        return None
    function = reference.find(name, "measure", default="measure")
    if not callable(function):
        raise InvalidArgument(f"measure {name!r} must be a function that takes the episodes of an update, got {function!r:.200}")

    def measure(episodes: Sequence[Trajectory], measured: Mapping[str, float]) -> dict[str, float]:
        return _checked(name, function(list(episodes)), measured)

    return measure


def _checked(name: str, returned: Any, measured: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(returned, Mapping):
        raise InvalidArgument(f"measure {name!r} must return a mapping of names to numbers, got {returned!r:.200}")
    found: dict[str, float] = {}
    for key, value in returned.items():
        if not isinstance(key, str) or key == "update" or key in measured:
            raise InvalidArgument(f"measure {name!r} returned the name {key!r}, which a run logs itself or which is no text; choose another one")
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InvalidArgument(f"measure {name!r} must return numbers, got {value!r:.200} for {key!r}")
        found[key] = float(value) if math.isfinite(value) else math.nan
    return found
