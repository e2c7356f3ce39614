"""``steptool view``: which episodes fit, what is shown of them, and that nothing a model wrote reaches a terminal or a page as more than text."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import steptool
from hypothesis import given
from hypothesis import strategies as st
from project import ROOT
from rich.console import Console
from viewed import ADD, DEEP, EPISODES, FINISH, SHALLOW, Reader, cut_off, failed, rude, solved, step

from steptool_agents.rollouts.evaluate import summarize
from steptool_agents.show.episodes import episode_view, find_file, line, overview, select, summary_line
from steptool_agents.show.page import episodes_page as page
from steptool_agents.trajectory import Trajectory, write_jsonl
from steptool_agents.trajectory.shown import ending
from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName
from steptool_env.rendering import printable
from steptool_env.types import Malformed, Task, ToolCall


def shown(renderable: Any, width: int = 80) -> str:
    """Return what a terminal of this width shows, without spaces at the ends of lines."""
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


# ---------------------------------------------------------------- which file, which episodes
def test_which_file_a_path_stands_for(tmp_path: Path) -> None:
    run, cell, mixed = tmp_path / "run", tmp_path / "cell", tmp_path / "mixed"
    for file in (run / "trajectories.jsonl", run / "metrics.jsonl", run / "other.jsonl", cell / "run" / "trajectories.jsonl", mixed / "a.jsonl"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert find_file(run / "metrics.jsonl") == run / "metrics.jsonl"  # what is named is taken
    assert find_file(run) == run / "trajectories.jsonl"
    assert find_file(cell) == cell / "run" / "trajectories.jsonl"
    assert find_file(mixed) == mixed / "a.jsonl"
    (cell / "evaluations").mkdir()
    (cell / "evaluations" / "held-out-greedy.jsonl").touch()
    with pytest.raises(CheckpointError, match=r"2 files of trajectories; view one of them: evaluations/held-out-greedy\.jsonl, run/trajectories\.jsonl$"):
        find_file(cell)
    for number in range(9):
        (mixed / f"{number}.jsonl").touch()
    with pytest.raises(CheckpointError, match=r"10 files .* 0\.jsonl, .*, 7\.jsonl and 2 more$"):
        find_file(mixed)


def test_a_path_without_trajectories_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(InvalidArgument, match=r"no file or folder '.*rnus'\. Did you mean 'runs'\?"):
        find_file(tmp_path / "rnus")
    with pytest.raises(InvalidArgument, match="no file or folder"):
        find_file(tmp_path / "no" / "such")
    with pytest.raises(CheckpointError, match=r"a run writes trajectories\.jsonl at its end"):
        find_file(tmp_path / "runs")
    (tmp_path / "runs" / "config.json").touch()
    (tmp_path / "runs" / "metrics.jsonl").touch()
    (tmp_path / "runs" / "before.jsonl").touch()  # the episodes before training would be taken for those after it
    with pytest.raises(CheckpointError, match=r"steptool train --out .*runs --resume"):
        find_file(tmp_path / "runs")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"solved": True}, [0]),
        ({"solved": False}, [1, 2]),
        ({"task": "deep"}, [1, 2]),
        ({"tags": ["family=count"]}, [0, 1, 2]),
        ({"tags": ["family=count", "depth=2"]}, [1, 2]),
        ({"tags": ["depth=1", "depth=2"]}, []),
        ({"error": "bad_arguments"}, [1]),
        ({"error": "transient"}, []),
        ({"solved": False, "task": "deep", "error": "unavailable"}, [2]),
    ],
)
def test_filters(filters: dict[str, Any], expected: list[int]) -> None:
    chosen = select(EPISODES, **filters)
    assert list(chosen) == expected
    assert all(chosen[index] is EPISODES[index] for index in chosen)


@pytest.mark.parametrize(
    ("filters", "kind", "message"),
    [
        ({"tags": ["depth=3"]}, UnknownName, r"unknown tag 'depth=3'.* Known: depth=1, depth=2, family=count\."),
        ({"error": "bad_argument"}, UnknownName, "unknown kind of error 'bad_argument'. Did you mean 'bad_arguments'"),
        ({"error": ""}, UnknownName, "unknown kind of error ''"),
        ({"task": "depe"}, InvalidArgument, r"no episode is of the task 'depe'\. Did you mean 'deep'\? The first is of 'shallow'\."),
    ],
)
def test_a_filter_that_nothing_could_pass(filters: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        select(EPISODES, **filters)


# ---------------------------------------------------------------- a line, the table, the summary
def test_lines_by_hand() -> None:
    about = {"index": 0, "task_id": "shallow", "tags": {"depth": 1, "family": "count"}, "success": 1.0, "ending": "solved", "reason": "right"}
    assert line(0, solved()) == about | {"calls": 2, "errors": {}, "faults": {}, "reward": 1.5, "masked": 0}
    about = {"index": 4, "task_id": "deep", "tags": {"depth": 2, "family": "count"}, "success": 0.0, "ending": "out of calls", "reason": ""}
    assert line(4, failed()) == about | {"calls": 2, "errors": {"malformed": 1, "bad_arguments": 1}, "faults": {"model": 2}, "reward": -0.5, "masked": 0}
    lost = line(2, cut_off())
    assert (lost["ending"], lost["reward"], lost["masked"]) == ("cut off", None, 1)


def test_endings() -> None:
    def last(**changes: Any) -> Trajectory:
        return Trajectory((step(DEEP, 0, FINISH, "", **changes),))

    assert ending(last(ends="finish")) == "failed"
    assert ending(last(ends="finish", solved=0.5)) == "0.50"
    assert ending(last(ends="budget", solved=1.0)) == "solved"
    assert ending(last()) == "open"


def test_the_table_by_hand() -> None:
    lines = [line(index, one) for index, one in enumerate(EPISODES)]
    assert shown(overview(lines)) == (
        "# task    depth family outcome      calls errors  reward\n"
        "0 shallow 1     count  solved           2      0  +1.500\n"
        "1 deep    2     count  out of calls     2      2  -0.500\n"
        "2 deep    2     count  cut off          1      1 missing\n"
    )


def test_the_table_shows_the_tags_that_there_are() -> None:
    def head(**tags: str | int) -> list[str]:
        return shown(overview([{**line(0, solved()), "tags": tags}])).splitlines()[0].split()[2:-4]

    assert head() == []
    assert head(category="simple", turns=1, third=3) == ["category", "turns"]
    assert head(domain="shop", family="lookup") == ["family"]


def test_a_long_id_is_kept_whole_in_a_narrow_terminal() -> None:
    text = shown(overview([{**line(0, solved()), "task_id": "x" * 60}]))
    assert text.count("x") == 60


def test_the_summary_by_hand() -> None:
    # Calls that contributed: the first of the solved episode starts at progress 0, and its finish solves; none of the other three.
    said = summary_line(summarize(EPISODES))
    assert said.startswith("3 episodes: success 33.3% (0% to 100%), call accuracy 50.0%, reward +0.500")  # (1.5 - 0.5) / 2: one is missing, with its call
    assert said.endswith(", 1 cut off by a fault")
    assert summary_line(summarize([cut_off()])).startswith("1 episode: success 0.0% (0% to 0%), call accuracy 0.0%, reward missing")


# ---------------------------------------------------------------- a whole episode
def test_an_episode_by_hand() -> None:
    assert shown(episode_view(0, solved())) == (
        "0  shallow, depth=1, family=count\n"
        "Count to 1.\n"
        "\n"
        "0 I add.\n"
        '  <tool_call>{"name": "add"}</tool_call>\n'
        "  The counter shows 1.\n"
        "  reward +0.500 (con +0.500); so far +0.500; progress 100%; value +0.750\n"
        "\n"
        '1 {"name": "finish", "arguments": {"answer": "1"}}\n'  # no text in the file: the call
        "  The end.\n"
        "  reward +1.000 (solved +1.000); so far +1.500; progress 100%; value +0.000\n"
        "\n"
        "Solved: right. 2 calls, +1.500 in all.\n"
    )


def test_mistakes_and_faults_are_shown_as_such() -> None:
    assert shown(episode_view(1, failed())).splitlines()[3:] == [
        "0 I think it is 2.  [no call]",
        "  malformed: Error: no call",
        "  reward -0.250 (sc -0.250); so far -0.250; progress 0%",
        "",
        '1 {"name": "add", "arguments": {"amount": "x"}}',
        "  bad_arguments: Error: no number",
        "  reward -0.250 (sc -0.250); so far -0.500; progress 0%",
        "",
        "Not solved. 2 calls, -0.500 in all. Out of calls.",
    ]
    text = shown(episode_view(2, cut_off()))
    assert "unavailable (infrastructure): Error: no server" in text and "reward missing (masked)" in text
    assert text.endswith("Not solved. 1 call, reward missing. Cut off.\n")


def test_what_was_executed_is_shown_where_it_differs() -> None:
    first, last = solved().steps
    other = Trajectory((replace(first, transition=first.transition._replace(action=ToolCall("add", {"amount": 2}))), last))
    said = 'executed: {"name": "add", "arguments": {"amount": 2}}'
    assert f"{said}\n" in shown(episode_view(0, other)) and said in Reader(page("t", {0: other})).texts
    assert "executed" not in shown(episode_view(0, solved())) + page("t", {0: solved()})


def test_long_texts_show_both_ends_or_all() -> None:
    long = "thought " * 500
    first = step(SHALLOW, 0, ADD, "head " + "row " * 500 + "tail", text=f"{long}the call", ends="finish")
    flat = " ".join(shown(episode_view(0, Trajectory((first,)))).split())
    assert "[4008 characters]" in flat and "the call" in flat and flat.count("thought") < 80
    assert "head row" in flat and "row tail" in flat and "[2009 characters]" in flat
    flat = " ".join(shown(episode_view(0, Trajectory((first,)), full=True)).split())
    assert flat.count("thought") == 500 and flat.count("row") == 500 and "characters]" not in flat


def test_no_text_commands_the_terminal() -> None:
    trajectory = rude()
    for view in (episode_view(0, trajectory), episode_view(0, trajectory, full=True), overview([line(0, trajectory)])):
        text = shown(view, 400)
        assert "\x1b" not in text and "\x07" not in text
        assert "�[2J��[bold]<script>" in text  # no markup either
        text.encode()


# ---------------------------------------------------------------- the page
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "p", "details", "summary", "span", "ol", "li", "pre", "b", "div", "i"}


def test_the_page_by_hand() -> None:
    read = Reader(page("a file", {0: solved(), 7: failed()}))
    assert {tag for tag, _ in read.tags} == TAGS
    assert [attributes["id"] for tag, attributes in read.tags if tag == "details"] == ["episode-0", "episode-7"]
    for text in ("a file", "Count to 1.", "The counter shows 1.", "I think it is 2. ", "[no call]", "Solved: right. 2 calls, +1.500 in all."):
        assert text in read.texts
    assert "Not solved. 2 calls, -0.500 in all. Out of calls." in read.texts
    assert "reward +0.500 (con +0.500); so far +0.500; progress 100%; value +0.750" in read.texts
    # One square a token: probability 1 is not shaded, ¼ by three quarters. The other actions have no tokens.
    assert [attributes for tag, attributes in read.tags if tag == "i"] == [
        {"style": "--doubt:0.00", "title": "token 7: 1.000"},
        {"style": "--doubt:0.75", "title": "token 8: 0.250"},
    ]


def test_the_page_loads_nothing() -> None:
    text = page("t", {0: rude()})
    attributes = {name for _, found in Reader(text).tags for name in found}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "id", "class", "start", "style", "title", "value"}
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text


def test_a_page_without_episodes() -> None:
    assert "No episode." in Reader(page("t", {})).texts


@given(text=st.text(st.characters(exclude_categories=()), max_size=40))
def test_every_text_is_text_on_the_page(text: str) -> None:
    task = Task(text, text, ("add",), 5, None, {text: text})
    trajectory = Trajectory((step(task, 0, Malformed(text, text), text, "malformed", text=text, ends="finish", reason=text),))
    source = page(text, {0: trajectory})
    source.encode()
    read = Reader(source)
    assert {tag for tag, _ in read.tags} == TAGS - {"div", "i"}
    if text:
        assert printable(text) in read.texts


# ---------------------------------------------------------------- the command
@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    write_jsonl(tmp_path / "run" / "trajectories.jsonl", EPISODES)
    return tmp_path / "run" / "trajectories.jsonl"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *arguments: steptool("view", *map(str, arguments), capsys=capsys, monkeypatch=monkeypatch)


def test_the_command_shows_the_episodes(run: Any, file: Path) -> None:
    code, out, err = run(file.parent)
    assert (code, err) == (0, "")
    assert "out of calls" in out and "3 episodes: success 33.3%" in out and "more:" not in out
    code, out, _ = run(file, "--failed", "--limit", 1)
    assert (code, out.count("deep")) == (0, 1)
    assert "… and 1 more: --limit 2" in out and "2 episodes: success 0.0%" in out and "--episode 1" in out
    code, out, _ = run(file, "--solved", "--tag", "depth=2")
    assert (code, out) == (0, "None of the 3 episodes fits.\n")


def test_the_command_shows_an_episode(run: Any, file: Path) -> None:
    code, out, _ = run(file, "--episode", 1)
    assert code == 0
    assert "I think it is 2.  [no call]" in out and "Out of calls." in out
    assert "characters]" in run(long(file), "--episode", 0)[1]
    assert "characters]" not in run(long(file), "--episode", 0, "--full")[1]
    assert run(file, "--episode", 1, "--solved")[1] == "None of the 3 episodes fits.\n"


def long(file: Path) -> Path:
    target = file.parent / "long.jsonl"
    write_jsonl(target, [Trajectory((step(SHALLOW, 0, FINISH, "x" * 1000, ends="finish"),))])
    return target


def test_the_command_prints_json(run: Any, file: Path) -> None:
    code, out, err = run(file.parent, "--failed", "--tag", "depth=2", "--limit", 1, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["file"], found["summary"]["episodes"], found["summary"]["success"]) == (str(file), 2, 0.0)
    assert found["episodes"] == [line(1, failed()), line(2, cut_off())]
    found = json.loads(run(file, "--error", "transient", "--json")[1])
    assert (found["summary"], found["episodes"]) == (None, [])


def test_the_command_writes_a_page(run: Any, file: Path, tmp_path: Path) -> None:
    code, out, _ = run(file, "--error", "malformed", "--html", tmp_path / "page.html")
    assert (code, out.splitlines()[-1]) == (0, f"Saved: {tmp_path / 'page.html'}")
    read = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [attributes["id"] for tag, attributes in read.tags if tag == "details"] == ["episode-1"]


MISTAKES = {
    "no path": (["nowhere"], "no file or folder 'nowhere'"),
    "no trajectories": (["run/metrics.jsonl"], "line 1: a trajectory has the unknown field 'update'"),
    "empty": (["run/empty.jsonl"], "has no episode"),
    "index": (["run", "--episode", "3"], "--episode 3: run/trajectories.jsonl has the episodes 0 to 2"),
    "tag": (["run", "--tag", "depth"], "unknown tag 'depth'"),
    "task": (["run", "--task", "shalow"], "Did you mean 'shallow'?"),
    "error": (["run", "--error", "transiet"], "Did you mean 'transient'?"),
    "full": (["run", "--full"], "--full needs --episode"),
    "page over the file": (["run", "--html", "run/trajectories.jsonl"], "would overwrite the file that is read"),
    "page in no folder": (["run", "--html", "no/page.html"], "a folder that exists, got 'no/page.html'"),
    "page on a folder": (["run", "--html", "run"], "got the folder 'run'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(run: Any, file: Path, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent.parent)
    Path("run/metrics.jsonl").write_text('{"update": 0}\n', encoding="utf-8")
    Path("run/empty.jsonl").touch()
    arguments, message = MISTAKES[mistake]
    before = file.read_bytes()
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and err.startswith("steptool: ") and message in err
    assert file.read_bytes() == before


def test_the_command_needs_no_torch(file: Path) -> None:
    program = (
        f"import sys; sys.argv = ['steptool', 'view', {str(file)!r}, '--html', {str(file.parent / 'p.html')!r}]\nfrom steptool_agents.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env=os.environ, capture_output=True)
    assert (file.parent / "p.html").exists()
