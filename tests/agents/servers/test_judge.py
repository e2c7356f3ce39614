"""The judge and its client against a real server that misbehaves: nothing is ever paid 0 for a fault of the infrastructure."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judging import Server, completion, cut_off, drips, echoes_the_key, grade, says, serving, slow, status, waits_for

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.servers.client import ChatClient, Failure
from steptool_agents.servers.judge import PaperJudge
from steptool_agents.trajectory import Trajectory, in_hindsight, read_jsonl, relabel_all, write_jsonl
from steptool_env import Outcome, StepToolEnv, Task, ToolCall, ToolResult, Transition, audit, make_shaper
from steptool_env.errors import InvalidArgument, MissingExtra
from steptool_env.rewards import Final, WeightedSum, knows_later, label

KEY = "sk-very-secret-4711"
TASK = Task("t", "Find the phone of Ada.", ("get", "finish"), 9)


def episode(calls: int = 2, answer: str | None = "5512", instruction: str = TASK.instruction) -> list[Transition]:
    task = replace(TASK, instruction=instruction)
    steps = [Transition(task, t, ToolCall("get", {"id": f"C{t}"}), ToolResult(f'{{"phone": "{t}"}}'), False, False, None) for t in range(calls)]
    if answer is not None:
        return [*steps, Transition(task, calls, ToolCall("finish", {"answer": answer}), ToolResult("ok"), True, False, Outcome(0.0))]
    return [*steps[:-1], steps[-1]._replace(truncated=True, outcome=Outcome(0.0))]


def judge(server: Server, **options: Any) -> PaperJudge:
    return PaperJudge(server.endpoint, "m", **{"judgments": 1, "backoff": 0.0, "timeout": 5.0, **options})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


# ---------------------------------------------------------------- what it pays
def test_several_judgments_are_averaged() -> None:
    with serving(grade(1, 5, "Solved"), grade(0, 2, "Unsure"), grade(0, 2, "Unsolved")) as server:
        shaper = judge(server, judgments=3, concurrency=1)
        (steps,) = label(shaper, [episode()])
    # ½·(1 + 0 + 0)/3, ½·(5 + 2 + 2)/15, (1 + ½ + 0)/3
    call = {"sc": pytest.approx(1 / 6), "con": pytest.approx(0.3), "solved": 0.0}
    assert steps == [call, call, {"sc": 0.0, "con": 0.0, "solved": pytest.approx(0.5)}]
    assert len(server.requests) == 3


def test_an_episode_without_an_answer_is_not_solved_whatever_the_judge_says() -> None:
    with serving(grade(1, 5, "Solved")) as server:
        (steps,) = label(judge(server), [episode(answer=None)])
    assert steps == [{"sc": 0.5, "con": 0.5, "solved": 0.0}] * 2


def test_what_the_judge_is_asked() -> None:
    with serving(grade()) as server:
        label(judge(server, max_result_chars=5, temperature=0.5), [episode()])
    (asked,) = server.requests
    assert asked["path"] == "/v1/chat/completions"
    assert (asked["model"], asked["temperature"]) == ("m", 0.5)
    assert asked["tools"][0]["function"]["name"] == asked["tool_choice"]["function"]["name"] == "grade_steps"
    text = asked["messages"][1]["content"]
    assert "Find the phone of Ada." in text
    assert 'Call 1: {"name": "get", "arguments": {"id": "C0"}, "response": "{\\"pho..."}' in text
    assert "Call 3" not in text
    assert "<answer>\n5512\n</answer>" in text


def test_grades_in_the_text_of_an_answer_are_read_too() -> None:
    said = {"succeed_tool_calling": [1], "contribution_to_final_answer": [2.5], "final_answer_status": "Solved"}
    with serving(says(json.dumps({"choices": [{"message": {"content": json.dumps(said)}}]}).encode())) as server:
        (steps,) = label(judge(server), [episode(1)])
    assert steps[0] == {"sc": 0.5, "con": 0.25, "solved": 0.0}


# ---------------------------------------------------------------- faults that pass
ODD = ["9" * 400, "-" + "9" * 400, "9" * 5000, "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "true", "false", "null", '"1"', "[1]", "{}", "-0.5", "5.0001"]
"""Numbers of a judge, as JSON or what passes for it."""


def judged(contribution: str = "5", succeeded: str = "1", status: str = '"Solved"') -> bytes:
    """A judgment of two calls that holds these texts as they are."""
    report = f'{{"succeed_tool_calling": [1, {succeeded}], "contribution_to_final_answer": [5, {contribution}], "final_answer_status": {status}}}'
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": report}}]}).encode()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(500), "http 500"),
        (status(429), "http 429"),
        (status(503, Retry_After="0"), "http 503"),
        (slow(30), "timeout"),
        (drips, "timeout"),
        (cut_off, "cut off"),
        (says(b"this is no JSON"), "nonsense"),
        (says(b"[]"), "nonsense"),
        (says(b"[" * 100_000), "nonsense"),
        (says(b'{"choices": [{"message": 3}]}'), "nonsense"),
        (says(b'{"choices": [{"message": {"content": null}}]}'), "nonsense"),
        (says(b"\xff\xfe"), "nonsense"),
        (says(completion("Solved")), "nonsense"),
        (says(completion({"succeed_tool_calling": "11", "contribution_to_final_answer": [1, 1], "final_answer_status": "Solved"})), "nonsense"),
        (grade(extra=1), "nonsense"),
        (grade(extra=-1), "nonsense"),
        (grade(contribution=7), "nonsense"),
        (grade(contribution=float("nan")), "nonsense"),
        (grade(succeeded=2), "nonsense"),
        (grade(status="Great"), "nonsense"),
        *((says(judged(contribution=number)), "nonsense") for number in ODD),
        *((says(judged(succeeded=number)), "nonsense") for number in ODD),
        *((says(judged(status=status)), "nonsense") for status in ("null", "true", "1e400", "[" * 900 + "]" * 900, "{}", "9" * 400)),
    ],
)
def test_a_passing_fault_is_asked_again(fault: Any, kind: str) -> None:
    with serving(fault, grade()) as server:
        shaper = judge(server, timeout=0.3)
        (steps,) = label(shaper, [episode()])
    assert steps[0] == {"sc": 0.5, "con": 0.5, "solved": 0.0}
    assert dict(shaper.client.failures) == {kind: 1}
    assert len(server.requests) == 2


def test_a_server_that_asks_for_patience_gets_it() -> None:
    with serving(status(429, Retry_After="1"), grade()) as server:
        started = time.monotonic()
        (steps,) = label(judge(server), [episode()])
        assert 1.0 <= time.monotonic() - started < 3.0
    assert steps[0] is not None
    waits = [status(429, Retry_After=value) for value in ("99999", "Thu, 01 Jan 2037 00:00:00 GMT", "soon")]
    with serving(*waits, grade()) as server:
        client = ChatClient(server.endpoint, backoff=0.0, longest_wait=0.05)
        assert client.ask_all([({"messages": ["", {"content": "<calls count=0>"}]}, 0)], lambda place, message: 1) == [1]
        client.close()


# ---------------------------------------------------------------- faults that stay
@pytest.mark.parametrize(
    ("fault", "requests"), [(status(500), 3), (grade(extra=1), 3), (cut_off, 3), (status(401), 1), (status(404), 1), (status(302, Location="/"), 1)]
)
def test_a_lasting_fault_leaves_the_reward_missing(fault: Any, requests: int) -> None:
    with serving(fault) as server:
        shaper = judge(server, attempts=3)
        assert label(shaper, [episode()]) == [[None] * 3]
        assert len(server.requests) == requests
    assert (shaper.missing, shaper.client.failures["given up"]) == (1, 1)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    shaper = PaperJudge(address, "m", judgments=1, attempts=2, backoff=0.0)
    assert label(shaper, [episode()]) == [[None] * 3]
    assert shaper.client.failures == {"connection": 2, "given up": 1}


def test_some_judgments_are_enough_if_the_user_says_so() -> None:
    for least, missing in ((1, False), (2, True)):
        with serving(grade(1, 5), status(400), status(400)) as server:
            (steps,) = label(judge(server, judgments=3, least=least, concurrency=1), [episode()])
        assert (steps[0] is None) == missing


def test_a_missing_reward_is_masked_and_counted_never_0(tmp_path: Path) -> None:
    envs = [StepToolEnv("worlds", "final", level=1) for _ in range(2)]
    trajectories = rollout(OraclePolicy(), envs, range(4))
    with serving(status(400), grade()) as server:
        shaper = judge(server, concurrency=1)
        done = relabel_all(trajectories, WeightedSum(Final(), shaper))
    first, *others = done
    assert first.masked.all()
    assert all(dict(step.parts) == {"solved": 0.0, "sc": 0.0, "con": 0.0} for step in first.steps)
    assert not any(one.masked.any() for one in others)
    assert all(one.rewards[-1] == 2.0 for one in others)  # the suite's verdict and the judge's
    assert shaper.missing == 1
    write_jsonl(tmp_path / "t.jsonl", done)
    assert [one.masked.all() for one in read_jsonl(tmp_path / "t.jsonl")] == [True, False, False, False]


def test_masked_trajectories_teach_nothing() -> None:
    pytest.importorskip("torch")
    from steptool_agents.learning.advantages import assign_credit
    from steptool_agents.rollouts.evaluate import measure, summarize

    (trajectory,) = rollout(OraclePolicy(), [StepToolEnv("worlds", "final", level=1)], [0])
    with serving(status(400)) as server:
        masked: Trajectory = relabel_all([trajectory], judge(server))[0]
    with_it, without = assign_credit([trajectory, masked], 1.0, 0.95), assign_credit([trajectory], 1.0, 0.95)
    assert (with_it.advantages[0] == without.advantages[0]).all()
    assert (with_it.advantages[1] == 0).all()
    # nor does a missing reward count as one of 0 in what is reported
    paid = replace(trajectory, steps=tuple(replace(step, parts={"solved": 0.5}) for step in trajectory.steps))
    assert summarize([paid, masked]).reward == sum(paid.rewards)
    assert (summarize([paid, masked]).masked, summarize([masked]).reward) == (1, None)
    measured = measure([paid, masked])
    assert measured["reward/solved"] == pytest.approx(measured["reward"])


# ---------------------------------------------------------------- many at once
def test_requests_run_side_by_side_within_the_bound() -> None:
    with serving(waits_for(0.1, grade())) as server:
        shaper = judge(server, judgments=2, concurrency=4)
        started = time.monotonic()
        labeled = label(shaper, [episode(instruction=f"Task {n}") for n in range(10)])
        seconds = time.monotonic() - started
    assert all(step is not None for steps in labeled for step in steps)
    assert len(server.requests) == 20
    assert 2 <= server.most_in_flight <= 4
    assert seconds < 1.5  # one after the other: 2 s


def test_episodes_get_their_own_judgment_whatever_the_order_of_answers() -> None:
    def by_task(handler: Any, body: Any) -> None:
        number = int(body["messages"][1]["content"].split("Task ")[1][0])
        waits_for(0.05 * (3 - number), grade(contribution=number))(handler, body)

    with serving(by_task) as server:
        labeled = label(judge(server), [episode(instruction=f"Task {n}") for n in range(4)])
    assert [steps[0]["con"] for steps in labeled if steps[0] is not None] == pytest.approx([0.0, 0.1, 0.2, 0.3])


# ---------------------------------------------------------------- the cache
def test_what_was_judged_once_is_not_asked_again(tmp_path: Path) -> None:
    with serving(grade(1, 5), grade(1, 4), grade(1, 3), status(500)) as server:
        options: dict[str, Any] = {"judgments": 3, "concurrency": 1, "cache": tmp_path, "attempts": 1}
        first = label(judge(server, **options), [episode()])
        again = label(judge(server, **options), [episode()])
        assert first == again
        assert first[0][0] == {"sc": 0.5, "con": pytest.approx(0.4), "solved": 0.0}  # three samples, not one three times
        assert len(server.requests) == 3
        label(judge(server, **options), [episode(3)])
        assert len(server.requests) == 6  # another episode is another request
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with serving(grade()) as server:
        shaper = judge(server, cache=tmp_path / "file" / "below")
        (steps,) = label(shaper, [episode()])
    assert steps[0] is not None
    assert shaper.client.failures == {"not cached": 1}


def test_neither_failures_nor_nonsense_are_cached(tmp_path: Path) -> None:
    with serving(status(500), grade(extra=1), grade()) as server:
        label(judge(server, cache=tmp_path), [episode()])
    (file,) = tmp_path.iterdir()
    assert "grade_steps" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"content": "{}"}', b"\xff", b"[" * 100_000, b'{"tool_calls": [%s]}' % (b"9" * 400)])
def test_a_damaged_entry_is_asked_again_and_mended(tmp_path: Path, damage: bytes) -> None:
    with serving(grade(1, 5), grade(1, 0)) as server:
        label(judge(server, cache=tmp_path), [episode()])
        (file,) = tmp_path.iterdir()
        file.write_bytes(damage)
        ((step, *_),) = label(judge(server, cache=tmp_path), [episode()])
        assert step == {"sc": 0.5, "con": 0.0, "solved": 0.0}
        label(judge(server, cache=tmp_path), [episode()])
        assert len(server.requests) == 2


# ---------------------------------------------------------------- the key
def test_the_key_is_sent_and_goes_nowhere_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = {"succeed_tool_calling": [1], "contribution_to_final_answer": [5], "final_answer_status": "Solved", "note": f"your key is {KEY}"}
    with serving(echoes_the_key(500), says(completion(said))) as server:
        shaper = judge(server, cache=tmp_path)
        trajectories = rollout(OraclePolicy(), [StepToolEnv("worlds", shaper, level=1, depth=(1, 1))], [0])
        write_jsonl(tmp_path / "trajectories.jsonl", in_hindsight(trajectories, shaper))
        assert [one["Authorization"] for one in server.headers] == [f"Bearer {KEY}"] * 2
    with serving(echoes_the_key(401)) as server:
        client = ChatClient(server.endpoint)
        (failure,) = client.ask_all([({}, 0)], lambda place, message: 1)
        client.close()
    assert isinstance(failure, Failure)
    assert str(failure) == "HTTP status 401: bad key: Bearer ***"
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"grade_steps" in written
    assert KEY.encode() not in written
    assert KEY not in caplog.text + repr(shaper) + repr(shaper.client) + json.dumps(list(shaper.client.failures))
    assert caplog.records  # something was logged


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("ANOTHER", "k2")
    with serving(grade()) as server:
        label(judge(server), [episode()])
        label(judge(server, key_env="ANOTHER"), [episode()])
    assert [one.get("Authorization") for one in server.headers] == [None, "Bearer k2"]


@pytest.mark.parametrize("bad", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(InvalidArgument, match="OPENAI_API_KEY") as refused:
        ChatClient("http://127.0.0.1:1/v1")
    assert bad not in str(refused.value)


# ---------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "127.0.0.1:8000"}, "must be an address"),
        ({"endpoint": "file:///etc/passwd"}, "must be an address"),
        ({"endpoint": f"http://user:{KEY}@127.0.0.1/v1"}, "put the key into the environment variable OPENAI_API_KEY"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"timeout": 0}, "timeout"),
        ({"concurrency": 0}, "concurrency"),
        ({"judgments": 2, "least": 3}, "least=3"),
        ({"least": 0}, "least=0"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as refused:
        make_shaper("paper-judge", **{"endpoint": "http://127.0.0.1:1/v1", "model": "m", **options})
    assert KEY not in str(refused.value)


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'steptool-env\[agents\]'"):
        ChatClient("http://127.0.0.1:1/v1")


def test_the_audit_shows_how_the_judged_reward_is_farmed() -> None:
    with serving(grade(1, 0, "Unsolved")) as server:
        shaper = judge(server)
        assert knows_later(shaper)
        found = audit("worlds", shaper, level=1, episodes=4)
    assert any("'repeater' earns" in fault for fault in found.faults)
    assert "It can be farmed" in (PaperJudge.__doc__ or "")
