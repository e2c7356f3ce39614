"""A minibatch whose trajectories begin alike: what they share encoded once, as a tree, beside every trajectory as a row of its own.

    python benchmarks/shared_prefix.py                          # SmolLM2-135M, LoRA rank 8, float32; writes benchmarks/results/shared_prefix.md
    python benchmarks/shared_prefix.py --model tiny --json      # the model of the demo

Real texts: tasks of ``worlds``, played by the oracle with a mistake in three of ten steps, so that the episodes of a task go different ways.

- groups: two tasks, eight episodes each
- tools: sixteen episodes of different tasks with one list of tools of 300 tokens, random tokens behind it
- mixed: sixteen tasks, one episode each, as training draws them: tools differ, too

A pass is forward and backward of the mean negative log-likelihood of the action tokens. Both ways run in turn (A-B-A-B), in CPU time; medians count. The
peak is that of a process of its own, less what it held before the pass, with ``MALLOC_MMAP_THRESHOLD_`` as in ``train_speed.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_speed import GIVE_BACK, status, trajectory

from steptool_agents import DemonstrationPolicy, LanguageModel, LMPolicy, Passes, Trajectory, load_model, rollout
from steptool_agents.learning.batches import action_tokens, length
from steptool_env import StepToolEnv, make_suite

RESULTS = Path(__file__).parent / "results" / "shared_prefix.md"
WAYS = {"rows": False, "tree": True}
EPISODES, GROUP = 16, 8


def cases(lm: LanguageModel, episodes: int) -> dict[str, list[Trajectory]]:
    """Return the minibatches of each case."""
    words: dict[str, Any] = {"replies": "field", "domains": ("shop", "travel", "clinic")} if lm.name == "tiny" else {}
    suite = make_suite("worlds", level=2, families=("lookup", "change"), **words)
    policy = DemonstrationPolicy(LMPolicy(lm), mistakes=0.3, rng=np.random.default_rng(0))
    chosen = {
        "groups": [index for index in range(max(episodes // GROUP, 1)) for _ in range(min(GROUP, episodes))],
        "mixed": list(range(episodes)),
    }
    return {
        **{name: rollout(policy, [StepToolEnv(suite) for _ in indices], indices) for name, indices in chosen.items()},
        "tools": _one_list([trajectory(TOOLS, lm.vocabulary, seed) for seed in range(episodes)]),
    }


TOOLS = [(340, 25), *[(45, 25)] * 3]
"""Context and action tokens of each step; the first 300 are the list of tools."""


def _one_list(made: Sequence[Trajectory]) -> list[Trajectory]:
    its = made[0].steps[0].generation.prompt_ids[:300]
    firsts = [replace(one.steps[0], generation=replace(one.steps[0].generation, prompt_ids=(*its, *one.steps[0].generation.prompt_ids[300:]))) for one in made]
    return [replace(one, steps=(first, *one.steps[1:])) for first, one in zip(firsts, made, strict=True)]


def run(lm: LanguageModel, way: str, trajectories: Sequence[Trajectory], budget: int) -> float:
    """Set gradients; return the loss."""
    lm._trees = WAYS[way]
    tokens, total = sum(map(action_tokens, trajectories)), 0.0
    for encoded in Passes(lm, token_budget=budget).encode([(one,) for one in trajectories]):
        loss = -encoded.logprobs().sum() / tokens
        loss.backward()
        total += float(loss.detach())
    return total


def load(options: argparse.Namespace) -> LanguageModel:
    torch.set_num_threads(options.threads)
    lm = load_model(options.model, lora_rank=0 if options.model == "tiny" else 8, bfloat16=options.bfloat16)
    lm.eval()
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:  # at 0, half of the gradients would be 0
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(name)))
    if not lm.reads_trees:
        raise SystemExit(f"{options.model} does not read trees: nothing to compare")
    return lm


def peak(options: argparse.Namespace) -> None:
    """Print the peak of this process's memory above what it held before the pass, in MB."""
    lm = load(options)
    case, way = options.peak.split("/")
    made = cases(lm, options.episodes)[case]
    run(lm, way, made[:2], options.budget)
    lm.zero_grad(set_to_none=True)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    before = status("VmRSS")
    run(lm, way, made, options.budget)
    print(json.dumps({"peak_mb": (status("VmHWM") - before) / 1024}))


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row of figures per case."""
    lm, rows = load(options), []
    for case, trajectories in cases(lm, options.episodes).items():
        peaks = {}
        for way in WAYS if options.memory else ():
            command = [sys.executable, __file__, *sys.argv[1:], "--peak", f"{case}/{way}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **GIVE_BACK})
            peaks[way] = json.loads(done.stdout.splitlines()[-1])["peak_mb"]
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        losses, gradients = {}, {}
        for _ in range(options.repeats):
            for way in WAYS:
                lm.zero_grad(set_to_none=True)
                start = time.process_time()
                losses[way] = run(lm, way, trajectories, options.budget)
                seconds[way].append(time.process_time() - start)
                gradients[way] = torch.cat([one.grad.flatten() for one in lm.trainable().values() if one.grad is not None])
        ratios = [a / b for a, b in zip(seconds["rows"], seconds["tree"], strict=True)]
        row = {"case": case, "episodes": len(trajectories), "tokens": sum(map(length, trajectories)), "ratio": statistics.median(ratios)}
        row |= {"loss_difference": abs(losses["tree"] / losses["rows"] - 1)}
        row |= {"gradient_difference": float((gradients["tree"] - gradients["rows"]).norm() / gradients["rows"].norm())}
        row |= {f"{way}_seconds": statistics.median(seconds[way]) for way in WAYS} | {f"{way}_mb": mb for way, mb in peaks.items()}
        rows.append(row)
        if not options.json:
            print(f"{case}: {row['ratio']:.2f} times as fast", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"of a minibatch (default: {EPISODES})")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=int, default=4096, help="tokens in one forward pass (default: 4096)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--no-memory", action="store_false", dest="memory", help="leave out the peaks, which take a process each")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.peak:
        peak(options)
        return
    rows = measure(options)
    if options.json:
        print(json.dumps(rows))
        return
    what = f"{options.model}, {'bfloat16' if options.bfloat16 else 'float32'}, {options.threads} thread(s), {options.budget} tokens a pass"
    lines = ["# What trajectories share, encoded once in training", "", f"`{shlex.join(['python', 'benchmarks/shared_prefix.py', *sys.argv[1:]])}`: {what};"]
    lines += [f"medians of {options.repeats}. Differences are relative; that of the gradient is of its norm.", ""]
    lines += ["| minibatch | tokens | rows, s | tree, s | times as fast | peak: rows, MB | tree, MB | loss differs by | gradient differs by |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        peaks = " | ".join(f"{row[f'{way}_mb']:,.0f}" if f"{way}_mb" in row else "" for way in WAYS)
        times = f"{row['rows_seconds']:.2f} | {row['tree_seconds']:.2f} | **{row['ratio']:.2f}**"
        lines.append(f"| {row['case']} | {row['tokens']:,} | {times} | {peaks} | {row['loss_difference']:.1e} | {row['gradient_difference']:.1e} |")
    print("\n".join(lines))
    if options.model == "smollm2" and not options.bfloat16:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
