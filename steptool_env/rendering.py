"""Rendering: the transcript with the reward of every step, as styled text, on the terminal, or as a picture.

Rich is imported at the first use, and Pillow only for pictures: an environment that nobody looks at pays for neither.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from steptool_env.errors import MissingExtra
from steptool_env.types import Message, Transition

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["HEIGHT", "MODES", "WIDTH", "Renderer", "printable", "shortened"]

MODES = ("ansi", "human", "rgb_array")
"""Every ``render_mode``."""
WIDTH, HEIGHT = 720, 480
"""Size of a picture in pixels. Both even, as video codecs want them."""

_COLUMNS = 100
_MAX_CHARS = 600
"""Longer messages are cut in a rendering: it is for people."""
_STYLES = {"user": "bold cyan", "assistant": "yellow", "tool": "white", "reward": "green", "punished": "red", "end": "bold magenta"}
_COLORS = {
    "user": (97, 214, 214),
    "assistant": (240, 220, 120),
    "tool": (220, 220, 220),
    "reward": (120, 220, 120),
    "punished": (240, 110, 110),
    "end": (230, 130, 230),
}
_BACKGROUND = (24, 26, 31)
_FONT, _LINE, _MARGIN = 14, 18, 12


class Renderer:
    """Renders one environment; it remembers how much of the episode a person has been shown."""

    def __init__(self) -> None:
        self._shown = 0

    def text(self, episode: Sequence[Transition], rewards: Sequence[float], ended: str) -> str:
        """Return the whole episode as text with ANSI colors."""
        return _ansi(_lines(episode, rewards, ended))

    def show(self, episode: Sequence[Transition], rewards: Sequence[float], ended: str) -> None:
        """Print what is new since the last call; everything, if the episode has just begun."""
        from rich.console import Console

        lines = _lines(episode, rewards, ended)
        begin = 0 if not rewards else min(self._shown, len(lines))
        self._shown = len(lines)
        console = Console(highlight=False, soft_wrap=True)
        for style, line in lines[begin:]:
            console.print(_styled(style, line))

    def picture(self, episode: Sequence[Transition], rewards: Sequence[float], ended: str) -> NDArray[np.uint8]:
        """Return the end of the episode, as much as fits, as an RGB array of shape (``HEIGHT``, ``WIDTH``, 3)."""
        try:
            from PIL import Image, ImageDraw, ImageFont
        except ImportError:
            raise MissingExtra("render_mode='rgb_array'", "pillow", "pip install 'steptool-env[video]'") from None
        font: Any = ImageFont.load_default(_FONT)
        columns = int((WIDTH - 2 * _MARGIN) / max(font.getlength("abcdefghij") / 10, 1.0))
        rows = [(style, row) for style, line in _lines(episode, rewards, ended) for row in textwrap.wrap(printable(line), columns, subsequent_indent="      ")]
        room = (HEIGHT - 2 * _MARGIN) // _LINE
        image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        for number, (style, row) in enumerate(rows[-room:]):
            draw.text((_MARGIN, _MARGIN + number * _LINE), row, fill=_COLORS[style], font=font)
        return np.array(image, dtype=np.uint8)


def _lines(episode: Any, rewards: Sequence[float], ended: str) -> list[tuple[str, str]]:
    """Return (style, line) for every message, and a line for the reward after each step."""
    messages: Sequence[Message] = episode.messages
    lines = [(_role(messages[0].role), _line(messages[0]))]
    for number, reward in enumerate(rewards):
        for message in messages[1 + 2 * number : 3 + 2 * number]:
            lines.append((_role(message.role), _line(message)))
        lines.append(("punished" if reward < 0 else "reward", f"   reward: {reward:+.3f}"))
    if ended:
        outcome = episode[-1].outcome
        verdict = f"solved {outcome.solved:g}" + (f" ({outcome.reason})" if outcome.reason else "")
        lines.append(("end", f"      end: {ended}, {verdict}, return {sum(rewards):+.3f}"))
    return lines


def _role(role: str) -> str:
    return role if role in _STYLES else "tool"


def _line(message: Message) -> str:
    return f"{message.role:>9}: {shortened(message.content)}"


def shortened(text: str, most: int = _MAX_CHARS) -> str:
    """Return the text; of a text of more than ``most`` characters, both ends: a model reasons first and calls last."""
    if len(text) <= most:
        return text
    return f"{text[: most * 2 // 3]} … [{len(text)} characters] … {text[len(text) - most // 3 :]}"


def _styled(style: str, line: str) -> Text:
    from rich.text import Text

    return Text(printable(line), style=_STYLES[style])


def printable(text: str) -> str:
    """Replace what would control a terminal or cannot be encoded: only line breaks, tabs and spaces of all kinds pass."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" or category(char) == "Zs" else "\ufffd" for char in text)


def _ansi(lines: Sequence[tuple[str, str]]) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=_COLUMNS, highlight=False, soft_wrap=True, legacy_windows=False)
    with console.capture() as capture:
        for style, line in lines:
            console.print(_styled(style, line))
    return capture.get()
