"""The page of the demo: its command is that of the Makefile, its rows are what the reports say."""

from __future__ import annotations

from typing import Any

from benchmark_files import load

demo = load("demo")


def report(success: float, deep: float) -> dict[str, Any]:
    tags = {"depth=4": {"success": deep}}
    return {"success": success, "success_low": success - 0.1, "success_high": success + 0.1, "call_accuracy": 0.5, "episodes": 200, "by_tag": tags}


def test_the_command_is_that_of_make_demo() -> None:
    command = demo.demo_command(3, "runs/some folder")
    assert command[0] == "train"
    assert command[command.index("--seed") + 1] == "3"
    assert command[command.index("--out") + 1] == "runs/some folder"
    assert not any("$" in word for word in command)


def test_the_page() -> None:
    one = {"before": report(0.695, 0.403), "after": report(0.88, 1.0), "updates": 45, "seconds": 240.4}
    text = demo.page({0: one}, "python benchmarks/demo.py")
    assert "| 0 | 69.5 % (59.5 to 79.5) | 88.0 % (78.0 to 98.0) | 40.3 → 100.0 % | 50.0 → 50.0 % | 240 |" in text
    assert "after 45 updates" in text
    assert "200 held-out tasks" in text


def test_no_task_of_four_calls_is_no_number() -> None:
    one = {"before": report(0.5, 0.0), "after": report(0.5, 0.0) | {"by_tag": {}}, "updates": 1, "seconds": 1.0}
    assert "0.0 → – %" in demo.row(0, one)
