"""What a notebook shows of environments and episodes; ``tests/agents/show`` looks at pages of trajectories."""

from __future__ import annotations

import gymnasium as gym

from steptool_env import StepToolEnv, Task, ToolCall, ToolResult
from steptool_env.html import ShownStep, as_text, episode_body
from steptool_env.tasks import Episode
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import Outcome, Transition


def test_an_environment_before_and_in_an_episode() -> None:
    env = StepToolEnv("worlds", level=2)
    assert "StepToolEnv of worlds, level 2, all 13 families" in env._repr_html_() and "call reset()" in env._repr_html_()
    env.reset(options={"task": 3})
    before = env._repr_html_()
    assert as_text(env.task.instruction) in before and "calls left" in before and "get_" in before
    for call in env.solution():
        env.step(call)
    after = env._repr_html_()
    assert "reward +" in after and "Solved: solved." in after and "progress 100%" in after


def test_other_forms_show_the_environment_within() -> None:
    env = gym.make("StepToolText-v0", suite="worlds", level=1).unwrapped
    env.reset(seed=0)
    assert env._repr_html_() == env.core._repr_html_()  # type: ignore[attr-defined]


def test_an_episode_escapes_what_it_shows() -> None:
    task = Task("<i>", "<script>", ("finish",), 3)
    episode = Episode(task, Toolkit([FINISH]))
    assert "&lt;script&gt;" in episode._repr_html_() and "<script>" not in episode._repr_html_()
    episode.transitions.append(Transition(task, 0, ToolCall("finish", {"answer": "<b>"}), ToolResult("<b>", "rejected"), True, False, Outcome(0.0, "<b>")))
    shown = episode._repr_html_()
    assert "<script>" not in shown and "Not solved: &lt;b&gt;. 1 call." in shown and "rejected" in shown


def test_a_long_episode_shows_its_beginning_and_its_end() -> None:
    shown = episode_body("", [ShownStep(f"call {number}", "") for number in range(100)], most=12)
    numbers = [number for number in range(100) if f"call {number}<" in shown]
    assert numbers == [0, 1, 2, 3, 4, 5, 6, 7, 96, 97, 98, 99] and "88 steps left out" in shown
    assert 'value="96"' in shown and "asked" not in shown
