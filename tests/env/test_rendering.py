from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from toy import Counting

from steptool_env import StepToolEnv, Tool, Toolkit
from steptool_env.errors import ResetNeeded
from steptool_env.rendering import HEIGHT, MODES, WIDTH, printable, shortened

Make = Callable[..., StepToolEnv]
ADD = {"name": "add", "arguments": {"amount": 1}}
FAIL = {"name": "fail", "arguments": {}}


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_ansi_shows_messages_rewards_and_the_end(make_env: Make) -> None:
    env = make_env(suite=Counting(), render_mode="ansi", max_steps=2)
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(options={"task": 0})
    env.step(ADD)
    text = env.render()
    assert "\x1b[" in text
    assert plain(text).splitlines() == [
        "     user: Count to 3.",
        'assistant: {"name": "add", "arguments": {"amount": 1}}',
        "     tool: The counter shows 1.",
        "   reward: +0.167",
    ]
    env.step(FAIL)
    assert plain(env.render()).splitlines()[-2:] == ["   reward: +0.000", "      end: truncated, solved 0, return +0.167"]
    env.reset(options={"task": 1})
    assert plain(env.render()) == "     user: Count to 4.\n"


def test_human_prints_only_what_is_new(make_env: Make, capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env(suite=Counting(), render_mode="human")
    env.reset(options={"task": 0})
    assert capsys.readouterr().out == "     user: Count to 3.\n"
    env.step(ADD)
    assert "Count to 3" not in (out := capsys.readouterr().out)
    assert "The counter shows 1." in out
    assert "+0.167" in out
    assert env.render() is None
    env.reset(options={"task": 1})
    assert "Count to 4" in capsys.readouterr().out


def test_rgb_array_is_a_picture_that_changes_with_each_step(make_env: Make) -> None:
    env = make_env(suite=Counting(), render_mode="rgb_array")
    env.reset(options={"task": 0})
    frames = [env.render()]
    for _ in range(30):  # more than fits: the end of the transcript is what is seen
        env.step(ADD)
        frames.append(env.render())
        if env._ended:
            break
    for frame in frames:
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert frame.dtype == np.uint8
    for before, after in itertools.pairwise(frames):
        assert not np.array_equal(before, after)


def test_without_a_mode_there_is_nothing(make_env: Make) -> None:
    env = make_env(suite=Counting())
    env.reset(seed=0)
    assert env.render() is None


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "human"])
def test_a_tool_cannot_send_commands_to_the_terminal(make_env: Make, mode: str) -> None:
    class Rude(Counting):
        def toolkit(self, task: Any) -> Toolkit:
            return Toolkit([Tool("rude", "", {"type": "object"}, lambda: "\x1b[2J\x07[bold]é😀" + "x" * 5000), *self.tools])

        def progress(self, task: Any, episode: Any) -> float:
            return 0.0

    env = make_env(suite=Rude(), render_mode=mode)
    env.reset(seed=0)
    env.step({"name": "rude", "arguments": {}})
    picture = env.render()
    if isinstance(picture, str):
        assert "\x1b[2J" not in picture
        assert "\x07" not in picture
        assert "[bold]é😀" in picture  # no markup either
        assert len(picture) < 2000
    else:
        assert (picture.dtype, picture.ndim) == (np.uint8, 3)
        assert picture.std() > 0


def test_what_is_printable() -> None:
    assert printable("é😀 \t\n\u00a0\u3000") == "é😀 \t\n\u00a0\u3000"
    assert printable("\x1b[2J\x00\x07\r\u202e\ud800") == "\ufffd[2J" + 5 * "\ufffd"  # an escape, a bell, a change of direction, a lone surrogate


def test_a_long_text_keeps_both_ends() -> None:
    assert shortened("x" * 600) == "x" * 600
    assert shortened("a" * 400 + "x" + "z" * 200) == "a" * 400 + " … [601 characters] … " + "z" * 200


def test_a_copy_renders_like_its_origin(make_env: Make) -> None:
    env = make_env(suite=Counting(), render_mode="ansi")
    env.reset(options={"task": 0})
    env.step(ADD)
    twin = env.fork()
    assert twin.render() == env.render()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")  # moviepy's own
def test_record_video_works(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    made = gym.make("StepTool-v0", suite=Counting(), render_mode="rgb_array")
    env = gym.wrappers.RecordVideo(made, str(tmp_path / "videos"), episode_trigger=lambda episode: True)
    env.reset(options={"task": 0})
    for call in env.unwrapped.solution():  # type: ignore[attr-defined]
        env.step(call.as_dict())
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000
