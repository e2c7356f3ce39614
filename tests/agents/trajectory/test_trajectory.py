"""Trajectories: what they say about an episode, new rewards without a rollout, and the file format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steptool_agents.trajectory import Generation, Step, Trajectory, read_jsonl, relabel, write_jsonl
from steptool_env.errors import DataError, InvalidArgument
from steptool_env.rewards import Final, StepTool
from steptool_env.types import ERRORS, Malformed, Outcome, Task, ToolCall, ToolResult, Transition

TASK = Task("t1", "Find the order of Zoë. 🙂", ("lookup", "finish"), 5, tags={"family": "lookup", "depth": 2})


def step(
    number: int = 0, *, error: str = "", outcome: Outcome | None = None, gain: tuple[float, float] = (0.0, 0.0), masked: bool = False, task: Task = TASK
) -> Step:
    call = ToolCall("lookup", {"key": "o7"})
    transition = Transition(task, number, call, ToolResult("found", error), outcome is not None, False, outcome, gain[1], gain[0])
    return Step(Generation('{"name": "lookup"}', call, (1, 2), (3, 4, 5), (-0.5, -0.25, -1.0), 0.5), transition, {"sc": 0.25, "con": 0.5}, masked)


def episode() -> Trajectory:
    return Trajectory((step(0, gain=(0.0, 0.5)), step(1, error="rejected", gain=(0.5, 0.5)), step(2, outcome=Outcome(1.0, "right"), gain=(0.5, 1.0))))


# ---------------------------------------------------------------- values
def test_what_a_trajectory_says() -> None:
    trajectory = episode()
    assert trajectory.task is TASK
    assert (trajectory.success, trajectory.terminated, trajectory.truncated) == (1.0, True, False)
    assert trajectory.steps[0].reward == 0.75
    np.testing.assert_array_equal(trajectory.rewards, [0.75] * 3)
    np.testing.assert_array_equal(trajectory.masked, [False] * 3)
    assert Trajectory((step(),)).success == 0.0


def test_what_was_repaired_in_a_call_is_kept_for_relabelling(tmp_path: Path) -> None:
    call = ToolCall("lookup", {"key": "o7"}, ("no tag",))
    repaired = replace(step(), generation=replace(step().generation, action=call), transition=step().transition._replace(action=call))
    write_jsonl(tmp_path / "t.jsonl", [Trajectory((repaired,))])
    (loaded,) = read_jsonl(tmp_path / "t.jsonl")
    for action in (loaded.steps[0].generation.action, loaded.steps[0].transition.action):
        assert isinstance(action, ToolCall)
        assert action.repaired == ("no tag",)


def test_rewards_are_summed_without_rounding() -> None:
    assert replace(step(), parts={"a": 1e16, "b": 1.0, "c": -1e16}).reward == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Generation("", ToolCall("f"), (), (1, 2), (-0.5,)), "got 2 token ids and 1 logprobs"),
        (lambda: Generation("", ToolCall("f"), (), (1,), (math.nan,)), "must be finite"),
        (lambda: Generation("", ToolCall("f"), value=math.inf), "must be finite"),
        (lambda: replace(step(4), parts={"sc": math.nan}), "part 'sc' of step 4 is nan"),
        (lambda: Trajectory(()), "at least one step"),
        (lambda: Trajectory((step(), step(1, task=replace(TASK, id="t2")))), "of one task, got .'t1', 't2'."),
    ],
)
def test_impossible_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()


# ---------------------------------------------------------------- relabel
def test_relabel_by_hand() -> None:
    # steptool: sc = -.1 for a failed call, con = ½·gain, solved at the last step
    trajectory = relabel(episode(), StepTool(alpha=0.1, beta=0.5))
    assert [dict(one.parts) for one in trajectory.steps] == [
        {"sc": 0.0, "con": 0.25, "solved": 0.0},
        {"sc": -0.1, "con": 0.0, "solved": 0.0},
        {"sc": 0.0, "con": 0.25, "solved": 1.0},
    ]
    assert relabel(trajectory, Final()).rewards.tolist() == [0.0, 0.0, 1.0]


def test_relabel_changes_nothing_but_the_parts() -> None:
    old, new = episode(), relabel(episode(), Final())
    assert replace(new, steps=tuple(replace(one, parts=two.parts) for one, two in zip(new.steps, old.steps, strict=True))) == old


def test_a_shaper_sees_the_episode_so_far() -> None:
    seen = []

    def shaper(transitions: Sequence[Transition]) -> Mapping[str, float]:
        seen.append([transition.step for transition in transitions])
        return {"length": len(transitions)}

    assert relabel(episode(), shaper).rewards.tolist() == [1.0, 2.0, 3.0]
    assert seen == [[0], [0, 1], [0, 1, 2]]


def test_only_hindsight_sees_how_long_an_action_was() -> None:
    """The environment cannot know it, so what is paid at the step must not depend on it."""

    class Brief:
        def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
            return {"length": -0.5 * (episode[-1].tokens or 0)}

    class BriefInHindsight(Brief):
        def hindsight(self, episodes: Sequence[Sequence[Transition]]) -> list[list[Mapping[str, float] | None]]:
            return [[self([transition]) for transition in transitions] for transitions in episodes]

    silent = replace(step(1), generation=Generation("", ToolCall("lookup")))
    played = Trajectory((step(0), silent))
    assert relabel(played, BriefInHindsight()).rewards.tolist() == [-1.5, 0.0]  # three tokens; none are known
    assert not relabel(played, Brief()).rewards.any()
    assert [one.transition for one in relabel(played, BriefInHindsight()).steps] == [one.transition for one in played.steps]


def test_a_tool_that_was_unavailable_masks_its_step_under_every_shaper() -> None:
    trajectory = relabel(Trajectory((step(0), step(1, error="unavailable", outcome=Outcome(1.0), masked=True))), Final())
    assert [dict(one.parts) for one in trajectory.steps] == [{"solved": 0.0}, {"solved": 0.0}]
    assert trajectory.masked.tolist() == [False, True]


def test_a_step_whose_reward_was_missing_is_paid_once_it_is_known() -> None:
    class Judge:
        answers = False

        def __call__(self, past: Sequence[Transition]) -> Mapping[str, float]:
            return {"grade": 0.0}

        def hindsight(self, episodes: Sequence[Sequence[Transition]]) -> list[list[Mapping[str, float] | None]]:
            return [[{"grade": 1.0} if self.answers or one.step == 1 else None for one in episode] for episode in episodes]

    judge, stored = Judge(), relabel(episode(), Final())
    silent = relabel(stored, judge)
    assert silent.masked.tolist() == [True, False, True]
    assert silent.rewards.tolist() == [0.0, 1.0, 0.0]
    judge.answers = True
    assert relabel(silent, judge).masked.tolist() == [False] * 3
    assert relabel(silent, judge).rewards.tolist() == [1.0] * 3
    assert relabel(silent, Final()) == stored  # as if the judge had never been asked


@pytest.mark.parametrize("bad", [None, 1.0, {"a": "x"}, {"a": math.nan}])
def test_a_shaper_that_returns_nonsense_is_named(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"shaper|step 0"):
        relabel(episode(), lambda _: bad)


# ---------------------------------------------------------------- files
TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(["\u2028\x85\n\r\n", "\ud800", "🙂é", '"\\', "\x00"])
# A pair of surrogates is one character in JSON; models' texts hold single ones at most.
CLEAN = TEXT.filter(lambda text: text == json.loads(json.dumps(text)))
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOAT | CLEAN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CLEAN, inner, max_size=3),
    max_leaves=6,
)
ACTIONS = st.builds(ToolCall, CLEAN, st.dictionaries(CLEAN, VALUES, max_size=3)) | st.builds(Malformed, CLEAN, CLEAN)
TASKS = st.builds(
    Task,
    CLEAN,
    CLEAN,
    st.lists(CLEAN, max_size=3).map(tuple),
    st.integers(1, 99),
    st.none(),
    st.dictionaries(CLEAN, st.integers(-(2**63) + 1, 2**63 - 1) | CLEAN, max_size=3),
)


@st.composite
def steps(draw: st.DrawFn, task: Task, number: int) -> Step:
    tokens = draw(st.lists(st.tuples(st.integers(0, 2**31), FLOAT), max_size=4))
    action = draw(ACTIONS)
    generation = Generation(
        draw(CLEAN),
        action,
        tuple(draw(st.lists(st.integers(0, 2**31), max_size=4))),
        tuple(token for token, _ in tokens),
        tuple(logprob for _, logprob in tokens),
        draw(FLOAT),
        draw(CLEAN),
    )
    transition = Transition(
        task,
        number,
        draw(st.just(action) | ACTIONS),
        ToolResult(draw(CLEAN), draw(st.sampled_from(ERRORS))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.none() | st.builds(Outcome, st.floats(0.0, 1.0), CLEAN)),
        draw(FLOAT),
        draw(FLOAT),
    )
    return Step(generation, transition, draw(st.dictionaries(CLEAN, FLOAT, max_size=3)), draw(st.booleans()))


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    task = draw(TASKS)
    return Trajectory(tuple(draw(steps(task, number)) for number in range(draw(st.integers(1, 3)))))


@settings(max_examples=60)
@given(written=st.lists(trajectories(), max_size=3), more=st.lists(trajectories(), max_size=2))
def test_what_is_read_equals_what_was_written(tmp_path_factory: pytest.TempPathFactory, written: list[Trajectory], more: list[Trajectory]) -> None:
    path = tmp_path_factory.mktemp("files") / "trajectories.jsonl"
    write_jsonl(path, written)
    assert read_jsonl(path) == written
    write_jsonl(path, more, append=True)
    assert read_jsonl(path) == written + more
    write_jsonl(path, more)
    assert read_jsonl(path) == more
    assert list(path.parent.iterdir()) == [path]


def test_a_line_is_readable_and_holds_no_private_data(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [Trajectory((step(task=replace(TASK, data={"gold": "secret"})),))])
    text = path.read_text(encoding="utf-8")
    assert "Zoë. 🙂" in text
    assert "secret" not in text
    (trajectory,) = read_jsonl(path)
    assert trajectory.task == TASK


def test_numpy_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    generation = Generation("x", ToolCall("f"), (), (np.int64(3),), (np.float32(-0.5),), np.float32(0.25))  # type: ignore[arg-type]
    write_jsonl(tmp_path / "t.jsonl", [Trajectory((replace(step(), generation=generation, parts={"a": np.float32(0.5)}),))])
    (trajectory,) = read_jsonl(tmp_path / "t.jsonl")
    assert trajectory.steps[0].generation == generation




def test_a_tag_that_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    one = step()
    large = replace(one, transition=one.transition._replace(task=replace(one.transition.task, tags={"depth": 2**63})))
    with pytest.raises(InvalidArgument, match=r"the tag 'depth' must be less than 2\*\*63"):
        write_jsonl(tmp_path / "episodes.jsonl", [Trajectory((large,))])
    assert not (tmp_path / "episodes.jsonl").exists()


@pytest.mark.parametrize("bad", [{"x": math.nan}, {"x": object()}, {1: "x"}, {"x": {2: 3}}, {"x": (1, 2)}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path, bad: dict[Any, Any]) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [episode()])
    wrong = replace(step(), generation=Generation("x", ToolCall("f", bad)))
    for append in (True, False):
        with pytest.raises(InvalidArgument, match=r"trajectory 1 \(task 't1'\) cannot be written as JSON"):
            write_jsonl(path, [episode(), Trajectory((wrong,))], append=append)
    assert read_jsonl(path) == [episode()]


def test_appending_drops_the_half_line_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [episode(), episode()])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    write_jsonl(path, [episode()], append=True)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])  # only the newline is missing: the line is complete
    write_jsonl(path, [episode()], append=True)
    assert len(read_jsonl(path)) == 3


def change(**fields: Any) -> Any:
    return lambda record: {**record, **fields}


def change_step(**fields: Any) -> Any:
    return lambda record: {**record, "steps": [{**record["steps"][0], **fields}]}


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda record: [record], "a line must be of type dict"),
        (lambda record: {key: value for key, value in record.items() if key != "steps"}, "the field 'steps' is missing"),
        (change(extra=1), "unknown field 'extra'"),
        (change(steps=[]), "at least one step"),
        (change(steps=[3]), "every entry of 'steps' must be of type dict"),
        (change(task={"id": "x", "instruction": "y", "tools": [1], "max_steps": 3, "tags": {}}), "every entry of 'tools'"),
        (change(task={"id": "x", "instruction": "y", "tools": [], "max_steps": 3, "tags": {"a": [1]}}), "the tag 'a'"),
        (change_step(logprobs=[]), "3 token ids and 0 logprobs"),
        (change_step(logprobs=[0, "x", 0]), "every entry of 'logprobs' must be of type float"),
        (change_step(parts={"sc": math.nan}), "NaN is not allowed"),
        (change_step(value=math.inf), "Infinity is not allowed"),
        (change_step(result={"content": "", "error": "oops"}), "unknown kind of error 'oops'"),
        (change_step(action={"name": "f"}), "the field 'arguments' is missing"),
        (change_step(action={"malformed": "f"}), "the field 'reason' is missing"),
        (change_step(outcome=3), "the field 'outcome' must be of type dict"),
        (change_step(masked=0), "the field 'masked' must be of type bool"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, edit: Any, fault: str) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [episode()])
    good = path.read_text(encoding="utf-8")
    path.write_text(good + json.dumps(edit(json.loads(good))) + "\n" + good, encoding="utf-8")
    with pytest.raises(DataError, match=f"t.jsonl, line 2: .*{fault}"):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "not a JSON value"),
        (b"", "not a JSON value"),
        (b'"\xff"', "not UTF-8"),
        (b"1e999", "1e999 is not allowed"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=["half", "empty", "bytes", "infinite", "deep"],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: bytes, fault: str) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [episode()])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError, match=f"line 2: .*{fault}"):
        read_jsonl(path)
