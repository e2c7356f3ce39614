"""Telling a tool's author what is wrong with the tool, which no model can mend: loudly, and once for every place in the code."""

from __future__ import annotations

import logging
import os
import sysconfig
import traceback
import warnings
from pathlib import Path

from steptool_env.errors import ToolFailed
from steptool_env.foreign import kind_of, message_of

__all__ = ["tell_author"]

_HERE = os.path.join(os.path.realpath(Path(__file__).parent), "")
_PYTHON = os.path.join(os.path.realpath(sysconfig.get_path("stdlib")), "")
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
    own = [frame for frame in frames if not os.path.realpath(frame.filename).startswith(_HERE)]
    # What this package does around the call is left out, and what Python does for it: from the first line on that is the author's.
    first = next((number for number, frame in enumerate(own) if not os.path.realpath(frame.filename).startswith(_PYTHON)), 0)
    text = "".join(traceback.format_list(own[first:] or frames))
    message = f"tool {name!r} failed, and not by the model's fault, which is not charged: {kind_of(fault)}{': ' if said else ''}{said}\n{text}"
    try:
        last = (own[first:] or frames or [traceback.FrameSummary("tool", 0, name)])[-1]
        warnings.warn_explicit(message.rstrip(), ToolFailed, last.filename, last.lineno or 0)  # the author's line and not ours
    except ToolFailed as raised:  # where warnings are errors it is told all the same, and the call is answered
        logging.getLogger(__name__).warning("%s", raised)
