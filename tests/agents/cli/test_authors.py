"""What somebody reads whose own suite or shaper is wrong: one sentence that says where, never a traceback of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command import steptool

SUITE = """
from steptool_env import Outcome, Task, TaskSuite, Toolkit, tool

@tool
def look(number: int) -> int:
    \"\"\"Look up a number.\"\"\"
    return number

class Mine(TaskSuite):
    name = "mine"

    def __init__(self, split: str = "train", tasks: int = 4) -> None:
        self.tasks = tasks

    def __len__(self) -> int:
        return self.tasks

    def __getitem__(self, index: int) -> Task:
        return Task(f"mine-{index}", f"Look up {index}.", ("look", "finish"), 4, index)

    def toolkit(self, task: Task) -> Toolkit:
        return Toolkit([look])

    def grade(self, task, episode):
        return Outcome(0.0)
"""
MISTAKES = {
    "an exception": ("return Outcome(0.0)", "return episode[-1].nothing", "grade failed with AttributeError: 'Transition' object has no attribute 'nothing' ("),
    "where it is": ("return Outcome(0.0)", "return 1 / 0", "mine.py, line 25: return 1 / 0)"),
    "no outcome": ("return Outcome(0.0)", "return True", "grade must return an Outcome, such as Outcome(1.0), got True"),
    "more than all": ("Outcome(0.0)", "Outcome(5.0)", "Outcome.solved must be from 0 to 1, where 1 is solved, got 5.0"),
    "no toolkit": ("Toolkit([look])", "[1, 2]", "toolkit must return a Toolkit, such as Toolkit([search, book]), got [1, 2]"),
    "no task": ("return Task(", "return (", "its tasks must be of the class Task, got ('mine-0'"),
    "a text for the tools": ('("look", "finish")', '"look"', "tools must be a tuple of names, got the text 'look'; write ('look', \"finish\")"),
    "a tool that is not there": ('("look", "finish")', '("loook", "finish")', "unknown tool in the tools of task 'mine-0': 'loook'. Did you mean 'look'?"),
    "a tag that is neither": ("), 4, index", '), 4, index, {"hard": True}', "a tag has a name and is text or an integer, got 'hard': True"),
    "no step": ("), 4, index", "), 0, index", "max_steps must be 1 or more, got 0"),
    "no solution": ('name = "mine"', 'name = "mine"\n    has_solution = True', "Mine says has_solution = True and defines no solution(self, task, episode)"),
}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)

    def failing(*arguments: str) -> str:
        code, _, said = steptool(*arguments, capsys=capsys, monkeypatch=monkeypatch)
        assert code == 2, said
        assert len(said.splitlines()) == 1, said
        return said

    return failing


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_suite_is_one_sentence(run: Callable[..., str], mistake: str) -> None:
    right, wrong, said = MISTAKES[mistake]
    assert right in SUITE
    Path("mine.py").write_text(SUITE.replace(right, wrong), encoding="utf-8")
    assert said in run("eval", "--policy", "random", "--suite", "mine.py", "--json")


def test_an_option_of_another_type_is_refused_before_it_is_used(run: Callable[..., str]) -> None:
    Path("mine.py").write_text(SUITE, encoding="utf-8")
    assert "option 'tasks' of suite 'mine.py' must be an integer, got 'many'" in run(
        "eval", "--policy", "random", "--suite", "mine.py", "--option", "tasks=many"
    )
    assert "option 'alpha' of shaper 'steptool' must be a number, got 'high'" in run("audit", "--shaper-option", "alpha=high")


def test_a_mistake_in_a_shaper_is_one_sentence(run: Callable[..., str]) -> None:
    Path("pay.py").write_text("def pay(episode):\n    return {'gain': episode[-1].progres}\n\ndef number(episode):\n    return 1.0\n", encoding="utf-8")
    said = run("audit", "--shaper", "pay.py:pay", "--level", "1", "--episodes", "1", "--json")
    assert "pay failed with AttributeError: 'Transition' object has no attribute 'progres' (" in said
    assert "pay.py, line 2: return {'gain': episode[-1].progres})" in said
    said = run("audit", "--shaper", "pay.py:number", "--level", "1", "--episodes", "1", "--json")
    assert "shaper number must return a mapping of part names to numbers, got 1.0" in said
    assert "with a colon, such as pay.py:pay" in run("audit", "--shaper", "pay.py")
