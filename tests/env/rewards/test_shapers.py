"""The smaller shapers, by hand."""

from __future__ import annotations

import pytest
from toy import Counting

from steptool_env import Malformed, Outcome, StepToolEnv, Task, ToolCall, ToolResult, Transition, make_shaper
from steptool_env.errors import InvalidArgument
from steptool_env.rewards import Budget, Format, NaiveSuccess, Past, Potential, Repetition, StepCost

TASK = Task("t", "Do it.", ("finish",), 9)


def step(error: str = "", *, solved: float | None = None, truncated: bool = False, before: float = 0.0, after: float = 0.0) -> Transition:
    outcome = None if solved is None else Outcome(solved)
    return Transition(TASK, 0, ToolCall("f"), ToolResult("x", error), solved is not None and not truncated, truncated, outcome, after, before)


def test_step_cost() -> None:
    assert StepCost(0.25)([step()]) == {"step_cost": -0.25}
    assert make_shaper("step-cost", cost=0.25)([step(solved=1.0)]) == {"solved": 1.0, "step_cost": -0.25}


@pytest.mark.parametrize(
    ("error", "paid"), [("", 0.0), ("malformed", -0.5), ("unknown_tool", -0.5), ("bad_arguments", -0.5), ("tool_failed", 0.0), ("timeout", 0.0)]
)
def test_format(error: str, paid: float) -> None:
    assert Format(0.5)([step(error)]) == {"format": paid}


def test_format_charges_for_repairs_where_a_price_is_set() -> None:
    repaired = step()._replace(action=ToolCall("f", {}, ("no tag", "trailing comma")))
    assert Format(0.5)([repaired]) == {"format": 0.0}
    assert Format(0.5, repair=0.125)([repaired]) == {"format": -0.125}
    assert Format(0.5, repair=0.125)([step()]) == {"format": 0.0}
    assert Format(0.5, repair=0.125)([repaired._replace(result=ToolResult("x", "bad_arguments"))]) == {"format": -0.5}  # charged once
    for prices in ((-0.1, 0.0), (0.1, -0.1), (float("nan"), 0.0)):
        with pytest.raises(InvalidArgument, match="never pays"):
            Format(*prices)


def test_budget() -> None:
    assert Budget(0.5)([step()]) == {"budget": 0.0}
    assert Budget(0.5)([step(solved=0.0)]) == {"budget": 0.0}
    assert Budget(0.5)([step(solved=0.0, truncated=True)]) == {"budget": -0.5}
    assert Budget(0.5)([step("unavailable", solved=0.0, truncated=True)]) == {"budget": 0.0}


def test_naive_success() -> None:
    assert NaiveSuccess()([step()]) == {"bonus": 0.1, "solved": 0.0}
    assert NaiveSuccess()([step("tool_failed", solved=0.5)]) == {"bonus": 0.0, "solved": 0.5}


# ---------------------------------------------------------------- repetition
def test_repetition_by_hand() -> None:
    look = step()
    other_order = look._replace(action=ToolCall("g", {"b": 1, "a": 2}))
    same = look._replace(action=ToolCall("g", {"a": 2, "b": 1}))
    news = same._replace(result=ToolResult("something else"))
    noise = look._replace(action=Malformed("hm", "no call"))
    episode = [look, look, other_order, same, news, noise, noise]
    assert [Repetition(1.0)(episode[: t + 1])["repetition"] for t in range(7)] == [0, -1, 0, -1, 0, 0, -1]


def test_state_is_kept_per_episode_and_built_again_after_restore() -> None:
    """One shaper serves two interleaved episodes, and a restored one knows what was called before."""
    shaper = Repetition(1.0)
    roll = {"name": "add", "arguments": {"amount": 0}}
    one, two = (StepToolEnv(Counting(), shaper) for _ in range(2))
    one.reset(seed=0)
    two.reset(seed=0)
    assert [one.step(roll)[1], two.step(roll)[1], one.step(roll)[1]] == [0.0, 0.0, -1.0]
    here = one.snapshot()
    assert one.fork().step(roll)[1] == -1.0
    one.reset(seed=0)
    assert one.step(roll)[1] == 0.0
    one.restore(here)
    assert one.step(roll)[1] == -1.0


def test_a_stateful_shaper_does_its_work_once_per_step() -> None:
    class Counted(Repetition):
        calls = 0

        def advance(self, state, last):  # type: ignore[no-untyped-def]
            self.calls += 1
            return super().advance(state, last)

    shaper, past = Counted(1.0), Past()
    for _ in range(100):
        past.append(step())
        shaper(past)
        shaper(past)  # asked twice: not counted as a repetition of itself
    assert shaper.calls == 100
    assert shaper([step()]) == {"repetition": 0.0}


# ---------------------------------------------------------------- potential
@pytest.mark.parametrize(
    ("last", "shaping"),
    [
        # γ = ½, weight 4: 4·(½·after − before), and Φ = 0 where the episode has ended
        (step(before=0.25, after=0.75), 4 * (0.375 - 0.25)),
        (step(before=0.75, after=0.25), 4 * (0.125 - 0.75)),
        (step(before=0.75, after=1.0, solved=1.0), 4 * -0.75),
        (step(before=0.75, after=0.75, solved=0.0, truncated=True), 4 * -0.75),
    ],
)
def test_potential_by_hand(last: Transition, shaping: float) -> None:
    solved = last.outcome.solved if last.outcome else 0.0
    assert Potential(gamma=0.5, weight=4.0)([last]) == {"shaping": shaping, "solved": solved}


def test_a_potential_of_ones_own() -> None:
    shaper = Potential(lambda task, past: task.max_steps * len(past), gamma=1.0)
    episode = [step(), step(), step(solved=1.0)]
    # Φ = 9·t: +9, +9, and −18 at the end
    assert [shaper(episode[: t + 1])["shaping"] for t in range(3)] == [9.0, 9.0, -18.0]


@pytest.mark.parametrize(("options", "message"), [({"gamma": 0.0}, "got 0.0"), ({"gamma": 1.5}, "got 1.5"), ({"phi": 3}, "got 3")])
def test_wrong_potentials(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_shaper("potential", **options)
