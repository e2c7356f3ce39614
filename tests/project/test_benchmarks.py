"""Every benchmark starts, and every result says which command made it; that command's options still exist."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
from project import BENCHMARKS, ROOT

from steptool_agents import Config
from steptool_agents.cli.options import pairs
from steptool_env.errors import UnknownName

SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8"))
"""Without modules that hold a part of a script."""
RESULTS = sorted((BENCHMARKS / "results").iterdir())
PAGES = [path for path in RESULTS if path.suffix == ".md"]
OTHERS = [path for path in RESULTS if path.suffix != ".md"]

Help = Callable[[str], str]


class Command(NamedTuple):
    """A call of a benchmark, as a page or a docstring writes it."""

    script: str
    arguments: list[str]

    @property
    def options(self) -> list[str]:
        """Those that are written out with two dashes."""
        return [one.split("=")[0] for one in self.arguments if one.startswith("--")]


def commands(text: str) -> Iterator[Command]:
    """Yield the calls of benchmarks: each ends with its line, a backtick, or a comment, and goes on after a backslash."""
    text = re.sub(r"\\{1,2}\n\s*", "", text)
    for script, rest in re.findall(r"python benchmarks/(\w+\.py)([^`\n]*)", text):
        yield Command(script, shlex.split(rest, comments=True))


@pytest.fixture(scope="module")
def help_of() -> Help:
    """From a script to what it answers to ``--help``. All run in this process, so that torch is imported once for all of them."""
    known: dict[str, str] = {}

    def ask(script: str) -> str:
        if script not in known:
            known[script] = answer(BENCHMARKS / script)
        return known[script]

    return ask


def answer(script: Path) -> str:
    """Run a script with ``--help`` as if by its name, and return what it prints; it must end there, without an error."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", [str(script), "--help"])
        patch.syspath_prepend(str(script.parent))
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code in (0, None), f"{script.name} --help ends with {ended.value.code}"
    return printed.getvalue()


def options_in(said: str) -> set[str]:
    """Return the options that a help text lists; its description, which may name others, comes before them."""
    return set(re.findall(r"^  (?:-\w, )?(--[a-z][\w-]*)", said.partition("\noptions:\n")[2], re.MULTILINE))


# ---------------------------------------------------------------- scripts
def test_there_are_scripts_and_results() -> None:
    assert len(SCRIPTS) > 15 and len(PAGES) > 15


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_answers_help(script: str, help_of: Help) -> None:
    assert "--help" in options_in(help_of(script))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_commands_that_a_script_begins_with_exist(script: str, help_of: Help) -> None:
    told = list(commands((BENCHMARKS / script).read_text(encoding="utf-8").split('"""')[1]))
    assert {one.script for one in told} == {script}, f"{script} must begin with the command that runs it"
    for one in told:
        check(one, help_of)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_its_result_or_is_named_by_one(script: str) -> None:
    """A figure of the documents is a result, too."""
    source = (BENCHMARKS / script).read_text(encoding="utf-8")
    named = re.findall(r"\b(?:benchmarks/results|docs)/\w+\.(?:md|png|json)\b", source)
    for path in named:
        assert (ROOT / path).is_file(), f"{script} names {path}, which does not exist"
    made = [page.name for page in PAGES if script in {one.script for one in commands(page.read_text(encoding="utf-8"))}]
    assert named or made, f"{script} has left no result: run it, and keep what it writes in benchmarks/results"


# ---------------------------------------------------------------- results
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_the_command_that_made_it(page: Path, help_of: Help) -> None:
    made = list(commands(page.read_text(encoding="utf-8")))
    assert made, f"{page.name} must say which command made it"
    for one in made:
        check(one, help_of)


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.name)
def test_a_figure_or_a_file_of_data_belongs_to_a_page(file: Path) -> None:
    named = file.name in "\n".join(page.read_text(encoding="utf-8") for page in [*PAGES, *(ROOT / "docs").rglob("*.md")])
    assert named, f"no page shows or names {file.name}"


def check(command: Command, help_of: Help) -> None:
    """Check that a script has the options of a command, and a run the settings that it sets."""
    assert command.script in SCRIPTS, f"there is no benchmarks/{command.script}"
    unknown = set(command.options) - options_in(help_of(command.script))
    assert not unknown, f"{command.script} has no {', '.join(sorted(unknown))}"
    Config.of(**pairs([value for name, value in zip(command.arguments, command.arguments[1:], strict=False) if name == "--set"], "--set"))


# ---------------------------------------------------------------- the checks see what they should
def test_commands_are_found() -> None:
    text = "Made by `python benchmarks/a.py --set lr=1e-4 --n 2`, then\n    python benchmarks/b.py x \\\n        --json   # why\npython other.py --no\n"
    assert list(commands(text)) == [Command("a.py", ["--set", "lr=1e-4", "--n", "2"]), Command("b.py", ["x", "--json"])]
    assert [one.options for one in commands(text)] == [["--set", "--n"], ["--json"]]


def test_options_are_found_in_the_list_alone() -> None:
    said = "usage: a.py [-h] [--n N]\n\nNot --this.\n\noptions:\n  -h, --help  show this\n  --n N       see --that\n  --long-one\n              text\n"
    assert options_in(said) == {"--help", "--n", "--long-one"}


@pytest.mark.parametrize("source", ["", "import sys\nsys.exit(2)", "import no_such_module"], ids=["ends without", "fails", "cannot be imported"])
def test_a_script_that_does_not_answer_is_found(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.py").write_text(source, encoding="utf-8")
    with pytest.raises((AssertionError, ImportError, pytest.fail.Exception)):
        answer(tmp_path / "a.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("python benchmarks/none.py", "there is no benchmarks/none.py"),
        ("python benchmarks/fuzz.py --nothing 1", "fuzz.py has no --nothing"),
        ("python benchmarks/smollm2.py --set learning_rate=1", "unknown setting 'learning_rate'"),
    ],
)
def test_commands_that_no_longer_work_are_found(text: str, message: str, help_of: Help) -> None:
    with pytest.raises((AssertionError, UnknownName), match=message):
        check(next(commands(text)), help_of)
