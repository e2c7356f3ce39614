"""The command ``steptool``: one file per group of commands. Commands without a model do not load torch."""

from __future__ import annotations

from .command import app, main

__all__ = ["app", "main"]
