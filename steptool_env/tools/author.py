"""Telling a tool's author what is wrong with the tool, which no model can mend: loudly, and once for every place in the code."""

from __future__ import annotations

import logging
import traceback
import warnings

from steptool_env.errors import ToolFailed
from steptool_env.foreign import kind_of, message_of

__all__ = ["tell_author"]

_told: set[tuple[str, str, str]] = set()
_MOST = 1000
"""Faults of one process that are told; nobody reads more."""


def tell_author(name: str, fault: BaseException) -> None:
    """Warn with ``ToolFailed``, which holds the traceback, unless the same tool has failed in the same way at the same place before.

    Args:
        name: The tool's name.
        fault: What was raised.
    """
    frames = traceback.extract_tb(fault.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    key = (name, kind_of(fault), place)
    if key in _told or len(_told) >= _MOST:
        return
    _told.add(key)
    said = message_of(fault, 500)
    text = "".join(traceback.format_list(frames))
    message = f"tool {name!r} failed, and not by the model's fault, which is not charged: {kind_of(fault)}{': ' if said else ''}{said}\n{text}"
    try:
        warnings.warn(message.rstrip(), ToolFailed, stacklevel=2)
    except ToolFailed as raised:  # where warnings are errors it is told all the same, and the call is answered
        logging.getLogger(__name__).warning("%s", raised)
