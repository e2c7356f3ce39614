"""``check_tools``: can a call format write the names of these tools? Said before the first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.formats.base import CallFormat, Tools
from steptool_env.types import ToolCall

__all__ = ["check_tools"]


def check_tools(form: CallFormat, tools: Tools) -> None:
    """Write a call of each tool with all its arguments, and read it back.

    Args:
        form: The call format.
        tools: Function schemas.

    Raises:
        InvalidArgument: A name of a tool or an argument does not survive: which one, and what to do.
    """
    for schema in tools:
        function = schema.get("function", schema)
        name, parameters = str(function["name"]), function.get("parameters")
        properties: Any = parameters.get("properties") if isinstance(parameters, Mapping) else None
        keys = list(properties) if isinstance(properties, Mapping) else []
        _check(form, ToolCall(name), f"the tool {name!r}")
        if not _survives(form, ToolCall(name, dict.fromkeys(keys, "x"))):
            for key in keys:
                _check(form, ToolCall(name, {key: "x"}), f"the argument {key!r} of the tool {name!r}")


def _survives(form: CallFormat, call: ToolCall) -> bool:
    try:
        return form.parse(form.render(call)) == call
    except ValueError:
        return False


def _check(form: CallFormat, call: ToolCall, what: str) -> None:
    if not _survives(form, call):
        raise InvalidArgument(f"the call format {form.name!r} cannot write {what}: rename it, or choose a format that quotes names, such as 'hermes'")
