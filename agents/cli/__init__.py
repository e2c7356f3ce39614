"""The command ``steptool``: one file a group of commands. Without a model, none of them loads torch."""

from __future__ import annotations

from .command import app, main

__all__ = ["app", "main"]
