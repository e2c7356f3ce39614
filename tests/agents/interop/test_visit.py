"""What is promised of every episode that another library plays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from replays import replay
from toy import Counting, reset_counter

from steptool_agents.interop.visit import Visit
from steptool_agents.trajectory import in_hindsight
from steptool_env import FINISH, StepToolEnv, Task, ToolCall, Toolkit, Transition
from steptool_env.errors import ResetNeeded
from steptool_env.wrappers import StepToolTextEnv

ADD = ToolCall("add", {"amount": 1})


@pytest.mark.parametrize("shaper", ["steptool", "potential", "budget"])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_leaving_is_a_malformed_step_and_the_last_of_the_budget(shaper: str, text: bool, steps: int) -> None:
    env = (StepToolTextEnv if text else StepToolEnv)(Counting(), shaper)
    visit = Visit(env)
    for _ in range(2):  # an episode that was left leaves nothing behind
        visit.start(0)
        for _ in range(steps):
            visit.play(env.call_format.render(ADD) if isinstance(env, StepToolTextEnv) else ADD)
        last = visit.leave("Bye.")
        ours = replay(0, [ADD] * steps, "Bye.", suite=Counting(), shaper=shaper)
        assert (visit.reward, last) == (sum(ours.rewards), ours.rewards[-1])
        assert [step.result.error for step in visit.episode] == [""] * steps + ["malformed"]
        assert visit.ended and not visit.masked and visit.success == 0
        assert visit.leave() == 0.0 and len(visit.episode) == steps + 1
    assert env.max_steps == steps + 1
    visit.start(0)
    assert env.max_steps is None


@pytest.mark.parametrize("shaper", ["hindsight", "monte-carlo", "paper-rules"])
def test_what_is_known_in_hindsight_is_paid_with_the_last_step(shaper: str) -> None:
    visit = Visit(StepToolEnv("worlds", shaper, level=2))
    for task in range(3):
        visit.start(task)
        calls = visit.env.solution()  # type: ignore[union-attr]
        for action in [ToolCall("nothing"), *calls]:
            _, reward = visit.play(action)
        (ours,) = in_hindsight([replay(task, [ToolCall("nothing"), *calls], suite="worlds", shaper=shaper, level=2)], visit.env.shaper)  # type: ignore[union-attr]
        assert visit.reward == pytest.approx(sum(ours.rewards))
        assert reward != 0.0


def test_a_reward_that_is_missing_masks_the_episode() -> None:
    class Judge:
        """Cannot be reached."""

        def __call__(self, episode: Sequence[Transition], /) -> dict[str, float]:
            return {"judged": 0.0}

        def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[None]]:
            return [[None for _ in transitions] for transitions in episodes]

    visit = Visit(StepToolEnv(Counting(), Judge()))
    visit.start(0)
    visit.leave()
    assert visit.masked and visit.reward == 0.0


def test_the_smallest_budget_holds() -> None:
    for own, theirs, most in [(None, None, 20), (None, 3, 3), (2, 3, 2), (5, 3, 3), (None, 30, 20)]:
        visit = Visit(StepToolEnv(Counting(), max_steps=own), theirs)
        for task in (0, 1):
            visit.start(task)
            while not visit.ended:
                visit.play(ADD)
            assert len(visit.episode) == most


def test_new_tools_are_explained_where_they_come_into_reach() -> None:
    class Growing(Counting):
        """A tool comes into reach when the user goes on."""

        def toolkit(self, task: Task) -> Toolkit:
            return Toolkit([*self.tools[:-1], FINISH], super().toolkit(task).state)

        def after_finish(self, task: Task, episode: object) -> str | None:
            toolkit = episode.toolkit  # type: ignore[attr-defined]
            toolkit._tools["reset_counter"], toolkit._schemas = reset_counter, None
            return super().after_finish(task, episode)  # type: ignore[arg-type]

    visit = Visit(StepToolTextEnv(Growing(turns=2)))
    visit.start(0)
    write = visit.env.call_format.render  # type: ignore[union-attr]
    messages, _ = visit.play(write(ADD))
    assert visit.turn(messages) == "<tool_response>\nThe counter shows 1.\n</tool_response>"
    messages, _ = visit.play(write(ToolCall("finish", {"answer": "3"})))
    turn = visit.turn(messages)
    assert turn.startswith(visit.env.call_format.instructions([])[:20]) and "reset_counter" in turn and turn.endswith("\n\nAnd now to 4.")  # type: ignore[union-attr]


def test_nothing_is_played_before_the_start() -> None:
    visit = Visit(StepToolEnv(Counting()))
    for play in (lambda: visit.play(ADD), lambda: visit.leave()):
        with pytest.raises(ResetNeeded):
            play()
