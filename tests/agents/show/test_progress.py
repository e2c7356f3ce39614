"""Where no terminal shows bars, a line says now and then how far a command is."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from steptool_agents.show import progress
from steptool_agents.show.progress import Bars, run_bars


class Clock:
    """A clock that goes on by itself, a minute whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", Clock())


def play(console: Console) -> None:
    with run_bars(console) as bars:
        bar = bars.add_task("step-ppo", total=20, note="")
        bars.update(bar, completed=1, note="success 0.25")
        bars.update(bar, completed=2, note="success \x1b[31m0.50")


@pytest.mark.usefixtures("minutes")
def test_a_file_gets_lines_on_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    play(Console(file=io.StringIO()))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("step-ppo: 1 of 20 in 0:") and first.endswith("; success 0.25")
    assert "step-ppo: 2 of 20 in 0:" in second and "\x1b" not in second


@pytest.mark.usefixtures("minutes")
@pytest.mark.parametrize("console", [{"force_terminal": True}, {"quiet": True}], ids=["a terminal", "quiet"])
def test_who_sees_bars_or_wants_nothing_gets_no_lines(console: dict[str, bool], capsys: pytest.CaptureFixture[str]) -> None:
    play(Console(file=io.StringIO(), **console))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


def test_a_short_command_prints_no_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY", 1e9)
    play(Console(file=io.StringIO()))
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("minutes")
def test_a_bar_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(console=Console(file=io.StringIO())) as bars:
        bars.update(bars.add_task("playing", total=None), completed=7)
    assert capsys.readouterr().err.startswith("playing: 7 in 0:")
