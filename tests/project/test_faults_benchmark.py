"""The benchmark of faults: what follows on a failed call, and the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmark_files import load

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.evaluate import rollout_tasks
from steptool_agents.trajectory import Generation
from steptool_env.env import StepToolEnv
from steptool_env.tasks.worlds import Worlds
from steptool_env.tasks.wrapped import Faulty
from steptool_env.types import ToolCall

faults = load("faults")


class ThenSays:
    """Plays the solution, but makes this call after one that failed."""

    def __init__(self, call: ToolCall) -> None:
        self.call = call

    def act(self, observations: Sequence[Any], envs: Sequence[StepToolEnv]) -> list[Generation]:
        def chosen(env: StepToolEnv) -> ToolCall:
            assert env.episode is not None
            return self.call if len(env.episode) and env.episode[-1].result.error else env.solution()[0]

        return [Generation(call.as_json(), call) for call in map(chosen, envs)]


def test_what_follows_on_a_failed_call() -> None:
    suite = Faulty(Worlds(level=1, split="test"), 0.4)
    played = rollout_tasks(OraclePolicy(), suite, list(range(12)))
    failed = sum(bool(step.transition.result.error) for one in played for step in one.steps[:-1])
    assert [what for _, what in faults.after_faults(played)] == ["made again"] * failed
    assert failed > 3
    for call, name in ((ToolCall("finish", {"answer": "x"}), "answered"), (ToolCall("nothing", {}), "invalid")):
        found = faults.after_faults(rollout_tasks(ThenSays(call), suite, list(range(12))))
        assert {what for _, what in found} == {name}
    assert {place for place, _ in found} >= {0, 1}, "counted from the first call"


def test_rows_differ_in_what_they_say() -> None:
    grid = faults.spec(2, 100, 5, list(faults.ROWS))
    settings = {row: grid.config(row, 0).flat() for row in grid.methods}
    changed = {row: {name for name, value in found.items() if value != settings["StepTool"][name]} for row, found in settings.items()}
    both = {"task.fault_rate", "warm_start.demo_fault_rate"}
    assert changed["faults in demonstrations"] == {"warm_start.demo_fault_rate"}
    assert changed["faults in both"] == changed["faults in both, more in demonstrations"] == both
    assert changed["budget shown"] == {"task.show_budget"}
    assert changed["alpha .02"] == changed["Con only"] == {"task.shaper_options"}
