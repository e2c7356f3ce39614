"""The terminal: everything that goes there is escaped here, whether it comes from a file, a model, a tool or an exception."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from steptool_env.rendering import printable

__all__ = ["SafeConsole", "sentence"]


class SafeConsole(Console):
    """A Rich console on which no text controls the terminal: its own styles and cursor movements pass, those within texts do not.

    Control characters, escapes, directions of writing and what cannot be encoded are shown as U+FFFD.
    """

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        """Return the segments of a renderable, their texts escaped; arguments as for Rich."""
        for segment in super().render(*arguments, **options):
            yield segment if segment.control or segment.text.isprintable() else segment._replace(text=printable(segment.text))


def sentence(text: object) -> str:
    """Return a message as one line that controls no terminal."""
    return printable(" ".join(str(text).split()))
