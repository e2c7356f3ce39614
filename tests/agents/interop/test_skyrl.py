"""Suites in SkyRL-gym, played as SkyRL's generator plays them."""

from __future__ import annotations

import random
from typing import Any

import pytest

skyrl_gym = pytest.importorskip("skyrl_gym", reason="skyrl-gym is not installed: pip install 'steptool-env[skyrl]'")

from replays import call, replay  # noqa: E402
from skyrl_gym.metrics import aggregate_for_environment  # noqa: E402
from toy import Counting  # noqa: E402

from steptool_agents.interop.skyrl import prompts, register  # noqa: E402
from steptool_agents.models.loading import TINY  # noqa: E402
from steptool_env import StepToolEnv, ToolCall, make_format, read  # noqa: E402
from steptool_env.errors import InvalidArgument, UnknownName  # noqa: E402

FORM = make_format("hermes")


def started(row: dict[str, Any], max_turns: int = 100) -> Any:
    """Make an environment as SkyRL does: the row less its prompt, and the generator's limit."""
    extras = {name: value for name, value in row.items() if name not in ("prompt", "env_class")} | {"max_turns": max_turns}
    env = skyrl_gym.make(row["env_class"], env_config={}, extras=extras)
    chat, _ = env.init(list(row["prompt"]))
    assert chat == row["prompt"]
    return env


@pytest.mark.parametrize("shaper", ["steptool", "potential"])
def test_fifty_episodes_are_paid_what_our_own_rollout_pays(shaper: str) -> None:
    rng, options = random.Random(shaper), {"level": 2, "faults": 1}
    register("steptool", "worlds", shaper=shaper, **options)
    ends, metrics = set(), []
    for row in prompts("steptool", range(50)):
        env, rewards, actions, done = started(row), [], [], False
        while not done:
            core = env._visit.env.core
            text = rng.choice(["", "First I look. "]) + FORM.render(call(rng, core, offered=False)) if rng.random() < 0.9 else "I do not know."
            actions.append(read(FORM, text, tools=[one.schema for one in core.episode.toolkit.values()]).action)
            output = env.step(text)
            rewards.append(output["reward"])
            done = output["done"]
            assert bool(output["observations"]) != done
        ours = replay(row["task"], actions, suite="worlds", shaper=shaper, **options)
        assert rewards == list(ours.rewards), "step by step"
        last = ours.steps[-1].transition
        assert last.outcome is not None
        metrics.append(env.get_metrics())
        assert metrics[-1] == {"masked": 0.0, "steps": len(ours.steps), "success": last.outcome.solved}
        ends.add((last.terminated, last.outcome.solved))
        env.close()
    assert ends >= {(True, 1.0), (True, 0.0), (False, 0.0)}, "solved, not solved, out of steps"
    assert aggregate_for_environment("steptool", metrics)["success"] == pytest.approx(sum(one["success"] for one in metrics) / 50)


def test_the_model_reads_what_our_own_policies_read() -> None:
    """Prompt and results are those of a chat template with instructions in text, token for token."""
    from transformers import AutoTokenizer

    from steptool_agents.chat.instructed import InstructedPrompts
    from steptool_agents.chat.template import Template

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    template = Template(tokenizer)
    ours = InstructedPrompts(template, FORM)
    register("steptool", "worlds", level=1)
    (row,) = prompts("steptool", [3])
    env, core = started(row), StepToolEnv("worlds", level=1)
    observation, _ = core.reset(options={"task": 3})
    assert tokenizer.encode(template.render(row["prompt"], generation=True)) == ours.prompt(observation)
    action = core.solution()[0]
    output = env.step(FORM.render(action))
    observation, *_ = core.step(action)
    said, answer = observation["messages"][-2:]
    theirs = template.render([*row["prompt"], {"role": "assistant", "content": FORM.render(action)}, *output["observations"]], generation=True)
    assert theirs.endswith(tokenizer.decode(ours.extend(said, [answer], "", ended=True)))


def test_the_smaller_budget_holds() -> None:
    for max_steps, max_turns, most in [(None, 2, 2), (3, 5, 3), (3, 2, 2), (None, 100, 20)]:
        register("counting", Counting(), max_steps=max_steps)
        env = started(prompts("counting", [0])[0], max_turns)
        played = [env.step(FORM.render(ToolCall("add", {"amount": 0})))["done"] for _ in range(most)]
        assert played == [False] * (most - 1) + [True]
        assert env.step("more") == {"observations": [], "reward": 0.0, "done": True, "metadata": {"masked": False}}


def test_an_infrastructure_fault_is_counted_and_costs_nothing() -> None:
    register("counting", Counting())
    env = started(prompts("counting", [0])[0])
    paid = env.step(FORM.render(ToolCall("add", {"amount": 1})))["reward"]
    output = env.step(FORM.render(ToolCall("phone")))
    assert (output["reward"], output["done"], output["metadata"]) == (0.0, True, {"masked": True})
    assert paid > 0 and env.get_metrics() == {"masked": 1.0, "steps": 2.0}


def test_a_user_with_a_second_wish() -> None:
    register("counting", Counting(turns=2))
    env = started(prompts("counting", [0])[0])
    env.step(FORM.render(ToolCall("add", {"amount": 3})))
    output = env.step(FORM.render(ToolCall("finish", {"answer": "3"})))
    assert output["observations"] == [{"role": "user", "content": "And now to 4."}] and not output["done"]


def test_mistakes_of_the_programmer_are_told_at_once() -> None:
    with pytest.raises(UnknownName, match="unknown suite 'wrlds'"):
        register("steptool", "wrlds")
    with pytest.raises(InvalidArgument, match="max_steps"):
        register("steptool", "worlds", max_steps=0)
    for name in ("steptol", "aime"):
        with pytest.raises(UnknownName, match=f"'{name}'"):
            prompts(name)
