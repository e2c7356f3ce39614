"""Training passes that encode what trajectories share once, beside passes over whole rows: time, losses, gradients.

    python benchmarks/shared_prefix.py               # SmolLM2-135M, LoRA rank 8; writes benchmarks/results/shared_prefix.md
    python benchmarks/shared_prefix.py --bfloat16 --json
    python benchmarks/shared_prefix.py --model tiny --json

``group``: 8 episodes of one task of ``worlds`` level 2, played by its solution with mistakes, so that first calls are often the same;
``tools``: 8 episodes of different tasks with the same tool list of 300 tokens (random tokens). Both ways compute the same loss
(mean negative log-likelihood of action tokens) and its gradient in turn (A-B-A-B), in CPU time; medians count.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_speed import trajectory, whole

from steptool_agents import LanguageModel, LMPolicy, Trajectory, load_model, rollout
from steptool_agents.learning.batches import length
from steptool_agents.learning.relatives import Units, tokens_of
from steptool_agents.policies.demonstrator import DemonstrationPolicy
from steptool_env import StepToolEnv, make_suite

RESULTS = Path(__file__).parent / "results" / "shared_prefix.md"
LABELS = {"group": "8 episodes of one task", "tools": "8 tasks, one tool list"}


def group(lm: LanguageModel, count: int) -> list[Trajectory]:
    """Return episodes of one task."""
    suite = make_suite("worlds", level=2, split="train")
    policy = DemonstrationPolicy(LMPolicy(lm), 0.4, np.random.default_rng(0))
    return rollout(policy, [StepToolEnv(suite, "steptool") for _ in range(count)], [0] * count)


def tools(lm: LanguageModel, count: int) -> list[Trajectory]:
    """Return episodes of different tasks with the same tools."""
    steps = [(340, 25)] + [(45, 25)] * 3
    made = [trajectory(steps, lm.vocabulary, seed) for seed in range(count)]
    its = made[0].steps[0].generation.prompt_ids[:300]
    firsts = [replace(one.steps[0], generation=replace(one.steps[0].generation, prompt_ids=(*its, *one.steps[0].generation.prompt_ids[300:]))) for one in made]
    return [replace(one, steps=(first, *one.steps[1:])) for first, one in zip(firsts, made, strict=True)]


def compare(lm: LanguageModel, made: Sequence[Trajectory], options: argparse.Namespace) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"rows": [], "tree": []}
    losses: dict[str, float] = {}
    gradients: dict[str, dict[str, torch.Tensor]] = {}
    for repeat in range(options.repeats):
        for way, spent in seconds.items():
            lm._trees = way == "tree"
            lm.zero_grad(set_to_none=True)
            start = time.process_time()
            losses[way] = whole(lm, made, options.budget)
            spent.append(time.process_time() - start)
            gradients[way] = {name: parameter.grad.clone() for name, parameter in lm.trainable().items() if parameter.grad is not None}
            if not options.json:
                print(f"{repeat + 1} of {options.repeats}: {way} {spent[-1]:.1f} s", file=sys.stderr, flush=True)
    scale = sum(float(one.square().sum()) for one in gradients["rows"].values())
    difference = sum(float((gradients["tree"][name] - one).square().sum()) for name, one in gradients["rows"].items())
    relatives = Units([[tokens_of(one)] for one in made])
    return {
        "tokens": sum(map(length, made)),
        "encoded": sum(size for _, size in relatives.micro_batches(relatives.order, options.budget)),
        "rows": statistics.median(seconds["rows"]),
        "tree": statistics.median(seconds["tree"]),
        "ratio": statistics.median(a / b for a, b in zip(seconds["rows"], seconds["tree"], strict=True)),
        "loss_difference": abs(losses["tree"] - losses["rows"]) / losses["rows"],
        "gradient_difference": (difference / scale) ** 0.5,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=int, default=2048, help="tokens in one forward pass")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the numbers; write no page")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lm = load_model(options.model, lora_rank=0 if options.model == "tiny" else 8, bfloat16=options.bfloat16)
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:  # at 0, half of the gradients would be 0
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(name)))
    found: dict[str, Any] = {"group": compare(lm, group(lm, options.episodes), options), "tools": compare(lm, tools(lm, options.episodes), options)}
    if options.json:
        print(json.dumps(found))
        return
    command = shlex.join(["python", "benchmarks/shared_prefix.py", *sys.argv[1:]])
    what = f"{options.model}, {'bfloat16' if options.bfloat16 else 'float32'}, {options.threads} thread(s), {options.budget} tokens in one pass"
    lines = ["# What trajectories share, encoded once in training", "", f"`{command}`: {what}; medians of {options.repeats}, CPU time.", ""]
    lines += ["| | tokens | encoded | whole rows, s | tree, s | times as fast | loss differs by | gradient differs by |", "|---|---|---|---|---|---|---|---|"]
    for name, one in found.items():
        times = f"{one['rows']:.1f} | {one['tree']:.1f} | **{one['ratio']:.2f}** | {one['loss_difference']:.1e} | {one['gradient_difference']:.1e}"
        lines.append(f"| {LABELS[name]} | {one['tokens']:,} | {one['encoded']:,} | {times} |")
    lines += ["", "Differences are relative; that of the gradient is of its norm."]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
