"""The command ``steptool``, run in this process."""

from __future__ import annotations

import sys

import pytest

from steptool_agents import cli

__all__ = ["steptool"]


def steptool(*arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Run the command in this process; return the exit code and what it wrote to both streams."""
    monkeypatch.setattr(sys, "argv", ["steptool", *arguments])
    monkeypatch.setenv("COLUMNS", "160")
    capsys.readouterr()
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err
