"""References to the user's own code: a module's object, a file, or an object of a file; and what is said when that code is not there or fails."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import Counting

from steptool_env import SHAPERS, SUITES, StepToolEnv, ToolCall, audit, make_shaper, make_suite, reference
from steptool_env.errors import InvalidArgument, UnknownName

SUITE = "from toy import Counting\n\nclass Mine(Counting):\n    def __init__(self, split='train', size=4):\n        super().__init__(size)\n"
SHAPER = "class Verdict:\n    def __init__(self, weight=1.0):\n        self.weight = weight\n"
SHAPER += "    def __call__(self, episode):\n        return {'solved': self.weight * (episode[-1].outcome.solved if episode[-1].outcome else 0.0)}\n"

LIVE = """from steptool_env import Toolkit, tool

@tool(timeout=None)
def look(at: str) -> str:
    return at

def make():
    return Toolkit([look])

class Source:
    toolkit = staticmethod(make)

source, wrong = Source(), 3
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Every test begins in an empty folder, and leaves no module and no path behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules, loaded = set(sys.modules), dict(reference._loaded)
    yield
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    reference._loaded.clear()
    reference._loaded.update(loaded)


def write(name: str, text: str) -> Path:
    path = Path.cwd() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# -------------------------------------------------------------------- what is found
@pytest.mark.parametrize("name", ["mine_a.py", "mine_a.py:Mine", "./mine_a.py", "mine_a:Mine"])
def test_a_suite(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("mine_a.py", SUITE)
    monkeypatch.syspath_prepend(tmp_path)
    suite = make_suite(name, split="test", size=5)
    assert isinstance(suite, Counting) and (type(suite).__name__, len(suite)) == ("Mine", 5)
    env = StepToolEnv(name, split="train")
    env.reset(options={"task": 0})
    for call in env.solution():
        *_, info = env.step(call)
    assert info["success"] == 1.0
    assert audit(name, "steptool", episodes=2)["oracle"].success == 1.0


def test_a_function_that_makes_it() -> None:
    write("made.py", SUITE + "\nclass Other(Mine):\n    pass\n\ndef make(size=7, **options):\n    return Other(size=size)\n")
    assert (type(make_suite("made.py", split="train")).__name__, len(make_suite("made.py"))) == ("Other", 7)
    assert type(make_suite("made.py:Mine")).__name__ == "Mine"


def test_classes_that_a_file_imports_or_hides_are_not_its_own() -> None:
    write("hiding.py", SUITE + "\nclass _Base(Counting):\n    pass\n")
    assert type(make_suite("hiding.py")).__name__ == "Mine"


@pytest.mark.parametrize("name", ["paying.py", "paying.py:Verdict"])
def test_a_shaper(name: str) -> None:
    write("paying.py", SHAPER)
    env = StepToolEnv(Counting(), make_shaper(name, weight=2.0))
    env.reset(options={"task": 0})
    rewards = [env.step(call)[1] for call in env.solution()]
    assert rewards == [0.0, 0.0, 0.0, 2.0]
    with pytest.raises(UnknownName, match="Did you mean 'weight'"):
        make_shaper(name, wieght=2.0)


def test_live_tools_of_the_suite_of_two_files() -> None:
    write("live.py", LIVE)
    tasks = write("t.jsonl", '{"id": "t", "instruction": "Look at a.", "calls": [{"name": "look", "arguments": {"at": "a"}}]}')
    for name in ("live.py", "live.py:make", "live.py:source"):
        env = StepToolEnv("jsonl", path=tasks, source=name, split="all")
        env.reset(options={"task": "t"})
        assert env.step({"name": "look", "arguments": {"at": "a"}})[0]["messages"][-1].content == "a"
        assert env.step(ToolCall("finish", {"answer": "seen"}).as_dict())[4]["success"] == 1.0
    with pytest.raises(InvalidArgument, match="must be a function that makes a Toolkit"):
        make_suite("jsonl", path=tasks, source="live.py:wrong")


def test_files_beside_it_and_files_of_the_same_name() -> None:
    for number in (1, 2):
        write(f"place{number}/beside{number}.py", f"SIZE = {number}\n")
        write(f"place{number}/same_name.py", f"from beside{number} import SIZE\n{SUITE}\n\ndef make(split='train'):\n    return Mine(size=SIZE)\n")
    assert [len(make_suite(f"place{number}/same_name.py")) for number in (1, 2, 1)] == [1, 2, 1]


def test_it_is_imported_once_and_again_when_it_has_changed() -> None:
    write("changing.py", SUITE)
    first = make_suite("changing.py")
    assert type(make_suite("changing.py:Mine")) is type(first)
    assert len(pickle.loads(pickle.dumps(first))) == 4
    write("changing.py", SUITE.replace("size=4", "size=40"))
    assert len(make_suite("changing.py")) == 40


def test_another_process_unpickles_what_a_file_defines() -> None:
    write("traveling.py", SUITE)
    Path("suite.pickle").write_bytes(pickle.dumps(make_suite("traveling.py", size=9)))
    program = f"import pickle, sys; sys.path[:] = {sys.path!r}; print(len(pickle.load(open('suite.pickle', 'rb'))))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr


def test_a_file_that_is_imported_already_is_not_imported_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("known_already.py", SUITE)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("known_already")
    assert type(make_suite("known_already.py")) is module.Mine


def test_a_file_never_hides_a_module() -> None:
    import random

    write("random.py", SUITE)
    assert type(make_suite("random.py")).__name__ == "Mine"
    assert sys.modules["random"] is random and sys.path[-1] == str(Path.cwd())


# -------------------------------------------------------------------- what is not
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gone.py", "", "there is no file .*gone.py; if it has moved, put it .* back there, or give its new path"),
        ("folder.py", None, "there is no file .*folder.py"),
        ("two.py", SUITE + "\nclass Other(Mine):\n    pass\n", "has several of them: Mine, Other; define a function 'make' or one class, or name the"),
        ("none.py", "x = 1\n", "has no function 'make' and no class that is one; define a function 'make' or one class"),
        ("none.py:Mine", "x = 1\n", "none.py has no 'Mine'"),
        ("named.py:Mime", SUITE, "has no 'Mime'; it has: Mine"),
        ("number.py:x", "x = 1\n", "must be a class or a function that makes a suite, got 1"),
        ("other.py:f", "def f():\n    return 3\n", "must make a TaskSuite, got 3"),
        ("syntax.py", "x = 1\nclass (\n", r"SyntaxError: .* \(.*syntax.py, line 2\)"),
        ("failing.py", "import os\n\ndef f():\n    return 1 / 0\n\nf()\n", r"ZeroDivisionError: division by zero \(.*failing.py, line 4\)"),
        ("missing.py", "x = 1\nimport no_such_module_at_all\n", r"No module named 'no_such_module_at_all' \(.*missing.py, line 2\)"),
        ("exiting.py", "import sys\nsys.exit(3)\n", r"SystemExit: 3 \(.*exiting.py, line 2\)"),
        ("no_such_module_at_all:Mine", "", "no module is called 'no_such_module_at_all'; install it, run the command in the folder"),
        ("a:b:c", "", "is no reference; expected module:object, path/to/file.py or path/to/file.py:object"),
    ],
)
def test_what_is_said(name: str, text: str | None, said: str) -> None:
    if text:
        write(name.partition(":")[0], text)
    elif text is None:
        Path(name).mkdir()
    with pytest.raises(InvalidArgument, match=said) as fault:
        make_suite(name)
    assert "\n" not in str(fault.value)
    assert "cannot be imported" not in str(fault.value) or not any(str(one).startswith(name.partition(".")[0]) for one in sys.modules)


def test_a_module_whose_own_import_fails_is_said_with_its_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("broken_inside.py", "x = 1\nimport no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidArgument, match=r"No module named 'no_such_module_at_all' \(.*broken_inside.py, line 2\)"):
        make_suite("broken_inside:Mine")


def test_a_suite_without_splits_is_told_how_to_have_them() -> None:
    write("unsplit.py", SUITE.replace("split='train', ", ""))
    assert len(make_suite("unsplit.py", size=2)) == 2
    with pytest.raises(InvalidArgument, match="must take split=: give it `split: str = \"train\"`"):
        make_suite("unsplit.py", split="test")
    with pytest.raises(UnknownName, match="Did you mean 'size'"):
        make_suite("unsplit.py", sise=2)


def test_names_that_are_neither() -> None:
    for make, known in ((make_suite, SUITES), (make_shaper, SHAPERS)):
        with pytest.raises(UnknownName) as fault:
            make("nothing_of_this_name")
        assert all(name in str(fault.value) for name in [*known, *reference.FORMS])


# -------------------------------------------------------------------- what is stored
def test_paths_are_absolute() -> None:
    here = Path.cwd()
    assert reference.absolute("a/b.py:C.d") == f"{here / 'a' / 'b.py'}:C.d"
    assert reference.absolute("../b.py") == str(here.parent / "b.py")
    write("data/tasks.jsonl", "")
    write("word", "")
    write("tools.py", "")
    options = {"path": "data/tasks.jsonl", "source": "tools.py:make", "more": ["data/", "word", "no/such.txt", 3], "domain": "word", "other": "gone.py:f"}
    assert reference.absolute_paths(options) == {
        "path": str(here / "data" / "tasks.jsonl"),
        "source": f"{here / 'tools.py'}:make",
        "more": [str(here / "data"), "word", "no/such.txt", 3],
        "domain": "word",
        "other": "gone.py:f",
    }
