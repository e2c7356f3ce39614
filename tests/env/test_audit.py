"""The audit passes what is safe, fails what can be farmed, and says how."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from toy import Counter, Counting

from steptool_env import SHAPERS, Audit, StepToolEnv, Task, ToolCall, Toolkit, Transition, audit, tool
from steptool_env.errors import InvalidArgument, NotSupported, ToolFailed, UnknownName
from steptool_env.rewards import Clip, Gate, NaiveSuccess, StepTool, WeightedSum, shaper_factory
from steptool_env.scripted import HACKS

LOCAL = sorted(set(SHAPERS) - {"paper-judge"})  # the judge needs an endpoint: tests/test_judge.py


@pytest.mark.parametrize("level", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shaper", LOCAL)
def test_every_shipped_shaper_passes_or_says_that_it_can_be_farmed(shaper: str, level: int) -> None:
    options = {"rollouts": 4} if shaper == "monte-carlo" else {}
    found = audit("worlds", shaper, level=level, episodes=16 if shaper != "monte-carlo" else 8, shaper_options=options)
    says = "It can be farmed" in (shaper_factory(shaper).__doc__ or "")
    assert found.passed == (not says and not shaper.startswith("naive-")), str(found)
    assert {row.policy for row in found.rows if row.kind == "hack"} == set(HACKS)
    for row in found.rows:
        assert sum(row.parts.values()) == pytest.approx(row.reward)
        assert row.missing == 0
    assert found["oracle"].success == 1.0


@pytest.mark.slow
def test_how_the_naive_bonus_is_farmed() -> None:
    found = audit("worlds", "naive-success", level=2, episodes=30)
    (fault,) = found.faults
    assert fault.startswith("'staller' earns")
    assert found["staller"].success == 1.0  # it solves, but takes all the time that it is paid for
    assert found["staller"].parts["bonus"] > found["oracle"].parts["bonus"] + 0.2
    long = audit("worlds", "naive-success", level=2, episodes=10, max_steps=40)
    assert any(fault.startswith("'repeater' earns") for fault in long.faults)  # with more time it need not solve at all
    assert long["repeater"].success == 0.0


def test_how_the_papers_reward_is_farmed() -> None:
    found = audit("worlds", "paper-rules", level=2, episodes=20)
    farmers = {fault.split("'")[1] for fault in found.faults}
    assert {"staller", "repeater", "spammer", "no finisher"} <= farmers


def test_a_bonus_for_one_tool_is_farmed_by_who_looks_at_the_reward() -> None:
    """No fixed trick makes just this call, so the audit needs one that tries what pays."""

    def curious(episode: Sequence[Transition]) -> Mapping[str, float]:
        last = episode[-1]
        looked = isinstance(last.action, ToolCall) and last.action.name == "roll" and not last.result.error
        return {"looked": 0.4 * looked, "solved": last.outcome.solved if last.outcome else 0.0}

    found = audit(Counting(), curious, episodes=10, max_steps=12)
    assert any(fault.startswith("'greedy' earns 4.") for fault in found.faults), str(found)
    assert found["greedy"].success == 0.0


def test_a_broken_tool_that_the_oracle_calls_is_a_fault_of_its_own() -> None:
    """The solution may solve its task without what a tool returns, so success does not show it."""

    @tool
    def add(state: Counter, amount: int) -> int:
        """Add."""
        state.value += amount
        raise RuntimeError("no disk")

    class Broken(Counting):
        def toolkit(self, task: Task) -> Toolkit:
            return Toolkit([add, *self.tools[1:]], super().toolkit(task).state)

    with pytest.warns(ToolFailed):
        found = audit(Broken(size=1), "final", episodes=1)
    assert found.faults[-1].startswith("3 calls of the oracle failed by the fault of the tools' author (tool_failed)")
    assert not found.passed


def test_a_reward_that_ranks_noisy_oracles_wrongly_fails() -> None:
    def backwards(episode: Sequence[Transition]) -> Mapping[str, float]:
        outcome = episode[-1].outcome
        return {"wrong": 0.0 if outcome is None else -outcome.solved}

    found = audit(Counting(), backwards, episodes=40)
    assert any("but earns no more" in fault for fault in found.faults)
    assert any("more than the oracle" in fault for fault in found.faults)


@pytest.mark.slow
def test_clipping_breaks_a_safe_shaper_and_the_audit_sees_it() -> None:
    """Losses of progress are cut away, so that to and fro pays: the audit takes a hack of the suite's own to see it."""

    def swing(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
        assert env.episode is not None
        return ToolCall("add", {"amount": 1 if len(env.episode) % 2 == 0 else -1})

    assert audit(Counting(), "steptool", episodes=10, policies={"swing": swing}).passed
    broken = audit(Counting(), Clip(StepTool(beta=3.0), 0.0, 1.0), episodes=10, policies={"swing": swing})
    assert any("'swing' earns" in fault for fault in broken.faults)


def test_a_gate_mends_the_naive_bonus() -> None:
    """Pay for calls that brought progress only, and the bonus can be farmed no longer."""
    gated = WeightedSum(StepTool(), Gate(NaiveSuccess(), lambda past: past[-1].progress > past[-1].progress_before))
    assert audit("worlds", gated, level=2, episodes=20).passed


def test_discounted_returns() -> None:
    found = audit(Counting(size=3), "final", episodes=3, gamma=0.5)
    # the oracle counts to 3, 4 and 5, then answers: ½³, ½⁴, ½⁵
    assert found["oracle"].reward == pytest.approx((0.5**3 + 0.5**4 + 0.5**5) / 3)


@pytest.mark.slow
def test_missing_rewards_are_left_out_and_counted() -> None:
    class Flaky:
        def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
            return {"solved": 0.0}

        def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[Any]:
            return [[None if one.task.id == "count-3" else {"solved": one.outcome.solved if one.outcome else 0.0} for one in steps] for steps in episodes]

    found = audit(Counting(), Flaky(), episodes=10)
    assert (found["oracle"].episodes, found["oracle"].missing) == (9, 1)
    assert found["random"].missing > 1  # it has called the server that is down, too
    assert found["oracle"].reward == 1.0
    all_gone = audit(Counting(), Flaky(), episodes=1)
    assert not all_gone.passed
    assert math.isnan(all_gone["oracle"].reward)
    assert json.loads(json.dumps(all_gone.as_dict(), allow_nan=False))["rows"][0]["reward"] is None


def test_the_same_seed_gives_the_same_audit() -> None:
    first, again, other = (audit("worlds", level=2, episodes=8, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_what_it_returns() -> None:
    found = audit(Counting(), "steptool", episodes=5)
    assert isinstance(found, Audit)
    assert json.loads(json.dumps(found.as_dict()))["passed"] is True
    assert [row.reward for row in found.rows] == sorted((row.reward for row in found.rows), reverse=True)
    text = str(found).splitlines()
    assert text[0] == "steptool on counting: passed"
    assert len(text) == 2 + len(found.rows)


def test_wrong_arguments() -> None:
    class Unsolvable(Counting):
        has_solution = False

    with pytest.raises(NotSupported, match="no oracle"):
        audit(Unsolvable())
    with pytest.raises(InvalidArgument, match="got 0"):
        audit(Counting(), episodes=0)
    with pytest.raises(InvalidArgument, match="'echo'"):
        audit(Counting(), policies={"echo": HACKS["echo"]})
    with pytest.raises(UnknownName, match="Did you mean 'oracle'"):
        audit(Counting(), episodes=1)["orcle"]
    with pytest.raises(UnknownName, match="alpa"):
        audit(Counting(), "steptool", shaper_options={"alpa": 1})
