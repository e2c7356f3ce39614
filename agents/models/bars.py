"""``no_bars``: while models are loaded and saved, transformers does not draw its own progress bars between ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

__all__ = ["no_bars"]


@contextmanager
def no_bars() -> Iterator[None]:
    """Turn the progress bars of transformers off within the block."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
