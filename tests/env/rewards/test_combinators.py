"""Combinators: what they pay at the step, what they pay in hindsight, what they keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Counting

from steptool_env import Outcome, StepToolEnv, Task, ToolCall, ToolResult, Transition, make_shaper
from steptool_env.errors import InvalidArgument
from steptool_env.rewards import Clip, Final, Gate, Normalize, Past, Schedule, StepCost, WeightedSum, frozen, knows_later, label, load_state, state_of
from steptool_env.rewards import set_training_progress as set_progress

TASK = Task("t", "Do it.", ("finish",), 9)
Parts = Mapping[str, float]


def episode(*solved: float | None, error: str = "") -> list[Transition]:
    return [Transition(TASK, t, ToolCall("f"), ToolResult("x", error), s is not None, False, None if s is None else Outcome(s)) for t, s in enumerate(solved)]


class Late:
    """Pays the step's number, but only in hindsight; step ``missing`` has no reward."""

    def __init__(self, missing: int | None = None) -> None:
        self.missing = missing

    def __call__(self, episode: Sequence[Transition], /) -> Parts:
        return {"late": 0.0}

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Parts | None]]:
        return [[None if t == self.missing else {"late": float(t)} for t in range(len(one))] for one in episodes]


def pays(*parts: Parts):  # type: ignore[no-untyped-def]
    return lambda episode: parts[len(episode) - 1]


def test_weighted_sum_by_hand() -> None:
    shaper = WeightedSum((2.0, pays({"a": 1.0, "b": 3.0})), pays({"b": 0.5, "c": -1.0}))
    assert shaper([None]) == {"a": 2.0, "b": 6.5, "c": -1.0}  # type: ignore[list-item]


def test_gate_by_hand() -> None:
    shaper = Gate(pays({"a": 1.0}, {"a": 2.0}), lambda past: len(past) > 1)
    assert label(shaper, [episode(None, 1.0)]) == [[{"a": 0.0}, {"a": 2.0}]]


def test_a_gate_over_the_whole_episode_opens_in_hindsight() -> None:
    shaper = Gate(StepCost(0.5), lambda past: past[-1].outcome.solved == 1.0, whole=True)  # type: ignore[union-attr]
    assert knows_later(shaper)
    assert shaper(episode(None)) == {"step_cost": 0.0}
    good, bad = label(shaper, [episode(None, 1.0), episode(None, 0.0)])
    assert good == [{"step_cost": -0.5}] * 2
    assert bad == [{"step_cost": 0.0}] * 2


@pytest.mark.parametrize(("value", "correction"), [(0.5, 0.0), (3.0, -2.0), (-7.0, 6.5)])
def test_clip_by_hand(value: float, correction: float) -> None:
    assert Clip(pays({"a": value}), -0.5, 1.0)(episode(None)) == {"a": value, "clip": correction}


def test_schedule_by_hand() -> None:
    inner = Schedule(StepCost(1.0), (1.0, 0.5))
    shaper = WeightedSum(Final(), Gate(inner, lambda past: True))
    paid = []
    for p in (0.0, 0.5, 1.0):
        set_progress(shaper, p)
        paid.append(shaper(episode(None))["step_cost"])
    assert paid == [-1.0, -0.75, -0.5]
    squared = Schedule(StepCost(1.0), lambda p: p**2)
    set_progress(squared, 0.5)
    assert squared(episode(None)) == {"step_cost": -0.25}


def test_normalize_by_hand() -> None:
    # rewards 3, 4, 0: mean squares 9, 12.5, 25/3
    shaper, past, paid = Normalize(pays({"a": 1.0, "b": 2.0}, {"a": 4.0, "b": 0.0}, {"a": 0.0, "b": 0.0}), epsilon=1e-12), Past(), []
    for transition in episode(None, None, 1.0):
        past.append(transition)
        paid.append(dict(shaper(past)))
    assert paid[0] == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert paid[1] == pytest.approx({"a": 4 / math.sqrt(12.5), "b": 0.0})
    assert (shaper.running.count, shaper.running.mean_square) == (3, pytest.approx(25 / 3))
    shaper(past)  # asked again about the same step
    with frozen(WeightedSum(Final(), shaper)):
        shaper(Past(past[:1]))
    assert shaper.running.count == 3


def test_faults_of_the_infrastructure_are_not_counted() -> None:
    shaper = Normalize(Final())
    label(shaper, [episode(None, 0.0, error="unavailable")])
    assert shaper.running.count == 0


def test_normalize_counts_rewards_of_hindsight_once() -> None:
    env = StepToolEnv(Counting(), normalize := Normalize(Late()), max_steps=3)
    env.reset(options={"task": 0})
    for _ in range(3):
        env.step({"name": "roll", "arguments": {}})
    assert normalize.running.count == 0
    assert env.episode is not None
    ((first, second, third),) = label(env.shaper, [list(env.episode)])
    # rewards 0, 1, 2: mean squares 0, 1/2, 5/3
    assert [first, second, third] == [{"late": 0.0}, {"late": pytest.approx(math.sqrt(2))}, {"late": pytest.approx(2 / math.sqrt(5 / 3))}]
    assert normalize.running.count == 3  # the environment's copy shares the statistic


def test_a_missing_reward_stays_missing_whatever_is_built_on_it() -> None:
    for shaper in (WeightedSum(Final(), Late(1)), Clip(Late(1)), Normalize(Late(1)), Schedule(Late(1), (1.0, 1.0)), Gate(Late(1), lambda past: True)):
        (steps,) = label(shaper, [episode(None, None, 1.0)])
        assert [one is None for one in steps] == [False, True, False]
    (steps,) = label(Gate(Late(1), lambda past: False, whole=True), [episode(None, None, 1.0)])
    assert steps == [{"late": 0.0}, None, {"late": 0.0}]


def test_what_is_kept_goes_through_json_and_back() -> None:
    def make() -> WeightedSum:
        return WeightedSum(Final(), (0.5, Normalize(Schedule(pays({"a": 3.0}), (1.0, 0.0)))))

    before, after = make(), make()
    set_progress(before, 0.5)
    before(episode(None))
    load_state(after, json.loads(json.dumps(state_of(before))))
    assert after(episode(None)) == before(episode(None))
    assert state_of(after) == state_of(before)
    with pytest.raises(InvalidArgument, match="2 children"):
        load_state(Normalize(Final()), state_of(before))
    with pytest.raises(InvalidArgument, match="not of the shaper"):
        load_state(Final(), state_of(before))
    assert state_of(Final()) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedSum(), "at least one"),
        (lambda: WeightedSum((math.nan, Final())), "finite"),
        (lambda: WeightedSum("final"), "got 'final'"),
        (lambda: Clip(Final(), 1.0, 1.0), "low=1.0"),
        (lambda: Clip(Clip(Final()))(episode(1.0)), "clip once"),
        (lambda: Gate(Final(), 3), "got 3"),
        (lambda: Schedule(Final(), 3), "got 3"),
        (lambda: set_progress(Schedule(Final(), (1.0, 0.0)), 2.0), "got 2.0"),
        (lambda: Normalize(Final(), 0.0), "got 0.0"),
    ],
)
def test_wrong_combinators(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgument, match=message):
        make()


def test_hindsight_of_the_wrong_length_is_named() -> None:
    class Short(Late):
        def hindsight(self, episodes, /):  # type: ignore[no-untyped-def]
            return [one[:-1] for one in super().hindsight(episodes)]

    with pytest.raises(InvalidArgument, match=r"\[3\] steps, got those of \[2\]"):
        label(Short(), [episode(None, None, 1.0)])


numbers = st.floats(-1e6, 1e6)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), numbers, min_size=1), min_size=1, max_size=4), st.lists(numbers, min_size=4, max_size=4))
def test_a_weighted_sum_is_linear(parts: list[dict[str, float]], weights: list[float]) -> None:
    shaper = WeightedSum(*((weight, pays(one)) for weight, one in zip(weights, parts, strict=False)))
    expected = math.fsum(weight * sum(one.values()) for weight, one in zip(weights, parts, strict=False))
    assert sum(shaper(episode(None)).values()) == pytest.approx(expected, abs=1e-3)


@given(st.dictionaries(st.sampled_from("abc"), numbers, min_size=1), numbers, st.floats(0.01, 10))
def test_a_clipped_reward_lies_within_the_bounds(parts: dict[str, float], low: float, width: float) -> None:
    total = sum(Clip(pays(parts), low, low + width)(episode(None)).values())
    assert low - 1e-6 <= total <= low + width + 1e-6


def test_a_named_shaper_within_a_sum_reaches_the_environment() -> None:
    env = StepToolEnv(Counting(), WeightedSum(make_shaper("steptool"), (0.5, make_shaper("step-cost", cost=0.1))))
    env.reset(options={"task": 0})
    _, reward, _, _, info = env.step({"name": "add", "arguments": {"amount": 3}})
    # con: ½·(1 − 0); a step: ½·−0.1
    assert info["reward_parts"] == pytest.approx({"sc": 0.0, "con": 0.5, "solved": 0.0, "step_cost": -0.05})
    assert reward == pytest.approx(0.45)
