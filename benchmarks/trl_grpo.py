"""Does TRL's GRPO train on our environment, and is it paid what our own rollout pays?

    python benchmarks/trl_grpo.py                      # tiny and smollm2, 3 updates each; writes benchmarks/results/trl_grpo.md
    python benchmarks/trl_grpo.py --model tiny --updates 20

Needs ``pip install 'steptool-env[trl,smollm2]'``. Runs on a CPU. TRL samples, calls the tools and learns; a suite of ours is its
``environment_factory``. From the conversations that TRL has kept, the calls are then played again by our own rollout, episode for episode,
and every reward is compared. The exit status is 1 if one differs, or if a loss is not finite.

``smollm2`` has no chat template with tools. It gets the one of Qwen 2.5 that TRL ships, whose control tokens it knows, and the tasks of
``worlds`` that a small pretrained model can read. Nothing has taught it to call tools, so it leaves its episodes. ``tiny`` has a template of its
own, and its own tasks. The page was made with ``--model tiny``: an update of ``smollm2`` takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from steptool_agents import Generation, rollout
from steptool_agents.config.presets import CHAINS, PRETRAINED_CHAINS
from steptool_agents.interop.trl import Environments, environments, reward
from steptool_agents.models.loading import TINY
from steptool_agents.models.packaged import converted
from steptool_env import Action, Malformed, Observation, StepToolEnv, ToolCall
from steptool_env.errors import missing_extra

RESULTS = Path(__file__).parent / "results" / "trl_grpo.md"
TASKS: dict[str, dict[str, Any]] = {"tiny": CHAINS, "smollm2": PRETRAINED_CHAINS}
SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {"per_device_train_batch_size": 16, "num_generations": 4, "learning_rate": 1e-4, "max_completion_length": 400},
    "smollm2": {"per_device_train_batch_size": 2, "num_generations": 2, "learning_rate": 1e-5, "max_completion_length": 64},
}


class Result(NamedTuple):
    """What one model has done."""

    model: str
    episodes: list[tuple[float, float, int]]
    """Of every episode: its reward in TRL, our own, and its steps."""
    logs: list[dict[str, float]]
    seconds: float


class Sequel:
    """A policy that plays these actions, one after the other."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = iter(actions)

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return the next action."""
        return [Generation("", next(self.actions)) for _ in observations]


def calls(play: Environments, task: int, completion: Sequence[dict[str, Any]]) -> list[ToolCall]:
    """Return the calls that TRL has handed on: within its own limit, and of tools on offer."""
    replies = [message["tool_calls"] for message in completion if message.get("tool_calls")][: play.max_calls]
    offered = vars(play.factories[play.rows[task]["environment"]]())
    functions = [one["function"] for reply in replies for one in reply]
    return [ToolCall(one["name"], one["arguments"]) for one in functions if one["name"] in offered]


def ours(task: int, actions: Sequence[Action], words: str, options: dict[str, Any]) -> tuple[float, int]:
    """Return reward and steps of the episode in our own rollout; without an end of its own, it ends with the words that are no call."""
    env = StepToolEnv("worlds", **options)
    env.reset(options={"task": task})
    ends = [number for number, action in enumerate(actions, 1) if env.episode is not None and not _over(env) and any(env.step(action)[2:4])]
    actions = actions[: ends[0]] if ends else [*actions, Malformed(words, "no call")]
    env = StepToolEnv("worlds", max_steps=None if ends else len(actions), **options)
    (trajectory,) = rollout(Sequel(actions), [env], [task])
    return sum(trajectory.rewards), len(trajectory.steps)


def _over(env: StepToolEnv) -> bool:
    return bool(env.episode) and (env.episode[-1].terminated or env.episode[-1].truncated)


def train(name: str, updates: int, seed: int) -> Result:
    """Train a model with TRL's GRPO and compare every reward."""
    try:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as fault:
        raise missing_extra("TRL's GRPO", fault, "trl") from fault
    options, folder = TASKS[name], TINY if name == "tiny" else converted(name)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if name != "tiny":
        import trl

        tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text(encoding="utf-8")
    play = environments("worlds", range(64), **options)
    kept: list[tuple[int, Any, float]] = []

    def watched(completions: Any, task: Any, **rest: Any) -> Any:
        values = reward(completions=completions, **rest)
        kept.extend(zip(task, completions, values, strict=True))
        return values

    with tempfile.TemporaryDirectory() as out:
        args = GRPOConfig(
            out, max_steps=updates, max_tool_calling_iterations=play.max_calls, temperature=1.0, logging_steps=1, seed=seed,
            save_strategy="no", report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, **SETTINGS[name],
        )  # fmt: skip
        trainer = GRPOTrainer(model, watched, args, Dataset.from_list(play.rows), processing_class=tokenizer, environment_factory=play.factories)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    episodes = []
    for task, completion, value in kept:
        mine, steps = ours(task, calls(play, task, completion), str(completion[-1].get("content") or ""), options)
        episodes.append((value, mine, steps))
    return Result(name, episodes, [log for log in trainer.state.log_history if "reward" in log], seconds)


def page(results: Sequence[Result], command: str) -> str:
    """Return the table as Markdown."""
    lines = [
        "# TRL's GRPO on our environment\n",
        f"Made by `{command}`, on a CPU. TRL samples, calls the tools and learns. Then the calls of every episode are played again by our own rollout,",
        "and its reward is compared with the one that TRL was given.\n",
        "| model | update | loss | gradient norm | reward | success | steps | calls that TRL answers itself |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        for number, log in enumerate(result.logs, 1):
            shown = [log["loss"], log["grad_norm"], log["reward"], log["success"], log["steps"], log["tools/failure_frequency"]]
            lines.append(f"| {result.model} | {number} | " + " | ".join(f"{value:.3f}" for value in shown) + " |")
    lines += [
        "",
        "| model | episodes | equal rewards | different rewards | values of the reward | steps | seconds an update |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        equal = sum(one == other for one, other, _ in result.episodes)
        steps = sum(steps for *_, steps in result.episodes)
        values = len({one for one, *_ in result.episodes})
        pace = result.seconds / len(result.logs)
        lines.append(f"| {result.model} | {len(result.episodes)} | {equal} | {len(result.episodes) - equal} | {values} | {steps} | {pace:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*TASKS], action="append", help="what is trained (default: both)")
    parser.add_argument("--updates", type=int, default=3, help="updates of each model (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes (default: benchmarks/results/trl_grpo.md)")
    arguments = parser.parse_args()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.set_num_threads(1)
    results = [train(name, arguments.updates, arguments.seed) for name in arguments.model or TASKS]
    text = page(results, shlex.join(["python", "benchmarks/trl_grpo.py", *sys.argv[1:]]))
    arguments.out.write_text(text, encoding="utf-8")
    Console().print(text)
    finite = all(math.isfinite(log[key]) for result in results for log in result.logs for key in ("loss", "grad_norm", "reward"))
    sys.exit(not finite or any(one != other for result in results for one, other, _ in result.episodes))


if __name__ == "__main__":
    main()
