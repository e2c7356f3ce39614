"""Record and replay, simulated failures, and suites behind wrapped tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptool_env import StepToolEnv, ToolCall, Toolkit, make_suite, tool
from steptool_env.errors import DataError, InvalidArgument, Unavailable
from steptool_env.tasks.wrapped import WithTools
from steptool_env.testing import check_suite, check_toolkit
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.recording import Recorder, canonical, read_recording


@tool(timeout=None)
def count(state: dict[str, int], by: int = 1) -> int:
    """Count up."""
    state["n"] += by
    if by == 7:
        raise Unavailable("closed on sevens")
    if by == 9:
        raise ValueError("nine")
    return state["n"]


def counting() -> Toolkit:
    return Toolkit([count], {"n": 0})


CALLS = [ToolCall("count", {"by": 2}), ToolCall("count", {"by": 2}), ToolCall("count", {"by": 9}), ToolCall("nope", {}), ToolCall("count", {"by": "x"})]


def test_a_replay_answers_as_the_recording_did(tmp_path: Path) -> None:
    recorder = Recorder(counting(), tmp_path / "calls.jsonl", "one")
    answers = [recorder.execute(call) for call in CALLS]
    assert [answer.content for answer in answers[:2]] == ["2", "4"]
    recorder.execute(ToolCall("finish", {"answer": "x"}))
    assert recorder.execute(ToolCall("count", {"by": 7})).error == "unavailable"
    recording = read_recording(tmp_path / "calls.jsonl")
    replay = recording.toolkit("one")
    assert replay.schemas == counting().schemas
    assert [replay.execute(call) for call in CALLS] == answers
    assert replay.execute(CALLS[0]).content == "4"  # from then on, the last one
    other = recording.toolkit("two")
    assert other.execute(CALLS[0]).content == "2"  # recorded elsewhere
    assert other.execute(ToolCall("count", {"by": 7})).error == "rejected"  # a fault of the infrastructure is not recorded
    assert other.execute(ToolCall("finish", {"answer": "x"})).error == ""
    check_toolkit(recording.toolkit("one"), calls=[CALLS[0]])


def test_a_replay_is_copied_exactly(tmp_path: Path) -> None:
    recorder = Recorder(counting(), tmp_path / "calls.jsonl")
    for call in CALLS[:2]:
        recorder.execute(call)
    replay = read_recording(tmp_path / "calls.jsonl").toolkit()
    before = replay.snapshot()
    assert replay.execute(CALLS[0]).content == "2"
    middle = replay.snapshot()
    assert replay.execute(CALLS[0]).content == "4"
    replay.restore(before)
    assert replay.execute(CALLS[0]).content == "2"
    replay.restore(middle)
    assert replay.execute(CALLS[0]).content == "4"


def test_a_file_that_was_recorded_is_not_recorded_on(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    for _ in range(2):
        Recorder(counting(), file, "one").execute(CALLS[0])  # several recorders of one recording
    assert len(read_recording(file).results[("one", "count", '{"by":2}')]) == 2
    before = file.read_bytes()
    with pytest.raises(InvalidArgument, match=r"calls\.jsonl' holds a recording already"):
        Recorder(counting(), file, "one")
    assert file.read_bytes() == before
    for _ in range(3):
        Recorder(counting(), file, "one", replace=True).execute(CALLS[0])  # the first of them replaces it
    assert len(read_recording(file).results[("one", "count", '{"by":2}')]) == 3
    file.unlink()
    Recorder(counting(), file)


def test_a_file_of_another_process_is_not_recorded_on(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    code = "import sys; from steptool_env import Toolkit; from steptool_env.tools.recording import Recorder; Recorder(Toolkit([]), sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    with pytest.raises(InvalidArgument, match="holds a recording already"):
        Recorder(counting(), file)


def test_a_torn_last_line_costs_that_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "calls.jsonl"
    recorder = Recorder(counting(), file, "one")
    for call in CALLS:
        recorder.execute(call)
    content = file.read_bytes()
    begin = content.rfind(b"\n", 0, -1) + 1
    whole = read_recording(file)
    file.write_bytes(content[:begin])
    less = read_recording(file)
    assert len(less.results) == len(whole.results) - 1
    for end in range(begin + 1, len(content) - 1):
        caplog.clear()
        file.write_bytes(content[:end])
        assert read_recording(file).results == less.results
        assert f"after {end - begin} bytes" in caplog.text
    file.write_bytes(content[:-1])  # only the line break is missing
    assert read_recording(file).results == whole.results


BROKEN = (
    "{",
    "[]",
    '{"episode": "a"}',
    '{"episode": 3, "tools": []}',
    '{"episode": "", "tools": [{"function": {"name": "x", "parameters": {"type": "text"}}}]}',
    '{"episode": "", "name": "x", "arguments": {}, "content": "", "error": "odd"}',
    '{"episode": "", "name": "x", "arguments": 3, "content": "", "error": ""}',
)
VALUES = st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=4)


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text('{"episode": "", "tools": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_recording(file)


@given(st.dictionaries(st.text(max_size=4), VALUES))
def test_keys_do_not_depend_on_the_order(arguments: dict[str, Any]) -> None:
    turned = dict(reversed(arguments.items()))
    assert canonical(arguments) == canonical(turned)
    assert json.loads(canonical(arguments)) == arguments


# ---------------------------------------------------------------- simulated failures
def test_faults_are_drawn_per_call_and_counted() -> None:
    calls = [ToolCall("count", {"by": by}) for by in range(10, 1010)]
    results = []
    for _ in range(2):
        faulty = FaultyToolkit(counting(), rate=0.3, error="transient", seed=5)
        results.append([faulty.execute(call).error for call in calls])
        assert faulty.injected["count"] == results[-1].count("transient")
    assert results[0] == results[1]
    assert 250 < results[0].count("transient") < 350
    again = FaultyToolkit(counting(), rate=0.5, seed=1)
    assert {again.execute(ToolCall("count", {"by": 1})).error for _ in range(20)} == {"", "transient"}
    assert FaultyToolkit(counting(), rate=1.0).execute(ToolCall("finish", {"answer": ""})).error == ""
    for options in ({"rate": 2.0}, {"latency": -1.0}, {"error": "odd"}):
        with pytest.raises(InvalidArgument):
            FaultyToolkit(counting(), **options)  # type: ignore[arg-type]


def test_a_failed_call_does_not_reach_the_tool_and_copies_meet_the_same_faults() -> None:
    faulty = FaultyToolkit(counting(), rate=0.5, seed=3)
    call = ToolCall("count", {"by": 1})
    before = faulty.snapshot()
    first = [faulty.execute(call) for _ in range(12)]
    assert faulty.state["n"] == sum(not result.error for result in first) < 12
    faulty.restore(before)
    assert [faulty.execute(call) for _ in range(12)] == first


# ---------------------------------------------------------------- suites behind wrapped tools
def test_thirty_percent_failures_lose_nothing_and_all_are_counted() -> None:
    made: list[FaultyToolkit] = []

    def wrap(task: Any, toolkit: Toolkit) -> FaultyToolkit:
        made.append(FaultyToolkit(toolkit, rate=0.3, error="unavailable", seed=task.id))
        return made[-1]

    suite = WithTools(make_suite("worlds", level=2), wrap)
    env = StepToolEnv(suite)
    episodes = masked = solved = 0
    for task in range(60):
        env.reset(options={"task": task})
        ended = False
        while not ended:
            *_, terminated, truncated, info = env.step(env.solution()[0])
            ended = terminated or truncated
        episodes, masked, solved = episodes + 1, masked + info["masked"], solved + (info["success"] == 1.0)
    assert masked + solved == episodes == 60
    assert masked == sum(one.injected.total() for one in made) > 10


def test_wrapped_suites_keep_the_contract() -> None:
    check_suite(WithTools(make_suite("worlds", level=1), lambda task, toolkit: FaultyToolkit(toolkit, rate=0.0)), tasks=2)
    check_suite(WithTools(make_suite("jsonl"), lambda task, toolkit: FaultyToolkit(toolkit, rate=0.0)), tasks=2)


def test_a_recorded_suite_is_replayed_bit_for_bit(tmp_path: Path) -> None:
    live = make_suite("jsonl", split="all")
    recorded = WithTools(live, lambda task, toolkit: Recorder(toolkit, tmp_path / "calls.jsonl", task.id))
    transcripts = []
    for suite in (recorded, None):
        env = StepToolEnv(suite or make_suite("jsonl", path=live.path, tools=tmp_path / "calls.jsonl", split="all"))  # type: ignore[attr-defined]
        seen = []
        for index in range(len(live)):
            env.reset(options={"task": index})
            for call in env.solution():
                observation, reward, *_, info = env.step(call)
                seen.append((observation, reward, info))
        transcripts.append(seen)
    assert transcripts[0] == transcripts[1]
