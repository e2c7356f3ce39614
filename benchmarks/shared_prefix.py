"""A minibatch whose trajectories begin alike: what they share encoded once, as a tree, beside every trajectory as a row of its own.

    python benchmarks/shared_prefix.py                          # SmolLM2-135M, LoRA rank 8, float32; writes benchmarks/results/shared_prefix.md
    python benchmarks/shared_prefix.py --model tiny --json      # the model of the demo
    python benchmarks/shared_prefix.py --float64                # how far both are from float64; writes its own table of that page, and no times

Real texts: tasks of ``worlds``, played by the oracle with a mistake in three of ten steps, so that the episodes of a task go different ways.

- groups: two tasks, eight episodes each
- tools: sixteen episodes of different tasks with one list of tools of 300 tokens, random tokens behind it
- mixed: sixteen tasks, one episode each, as training draws them: tools differ, too

A pass is forward and backward of the mean negative log-likelihood of the action tokens. Both ways run in turn (A-B-A-B), in CPU time; medians count. The
peak is that of a process of its own, less what it held before the pass, with ``MALLOC_MMAP_THRESHOLD_`` as in ``train_speed.py``.

The gradients of both ways differ, as float32 adds up in another order. ``--float64`` tells this from a mistake: plain transformers reads each episode
alone, in float64 throughout, and the distance of both ways from its gradient is measured.
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
import torch.nn.functional as F
from measuring import status
from train_speed import GIVE_BACK, trajectory

from steptool_agents import DemonstrationPolicy, LanguageModel, LMPolicy, Passes, Trajectory, load_model, rollout
from steptool_agents.learning.batches import action_tokens, length
from steptool_env import StepToolEnv, make_suite

RESULTS = Path(__file__).parent / "results" / "shared_prefix.md"
WAYS = {"rows": False, "tree": True}
EPISODES, GROUP, BUDGET = 16, 8, 4096
FEW = {"episodes": 8, "budget": 1024}
"""What ``--float64`` takes unless it is told otherwise: float64 costs more, and says as much with half of the episodes."""
BESIDE = "## Beside float64"
"""The heading of what ``--float64`` writes; each of the two parts of the page is kept when the other one is made again."""


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


def in_float64(model: Any, trajectories: Sequence[Trajectory]) -> float:
    """Set gradients of a plain model in float64, from whole logits and one episode at a time; return the loss."""
    tokens, total = sum(map(action_tokens, trajectories)), 0.0
    for one in trajectories:
        ids: list[int] = []
        at: list[int] = []
        for step in one.steps:
            ids += step.generation.prompt_ids
            at += range(len(ids), len(ids) + len(step.generation.token_ids))
            ids += step.generation.token_ids
        row, places = torch.tensor(ids), torch.tensor(at)
        loss = F.cross_entropy(model(input_ids=row[None], use_cache=False).logits[0, places - 1], row[places], reduction="sum") / tokens
        loss.backward()
        total += float(loss.detach())
    return total


def double(lm: LanguageModel) -> Any:
    """Return the model in float64, with its own attention; norms, too, which transformers rounds to float32 whatever it is given."""
    model: Any = lm.model.get_base_model()  # type: ignore[operator]
    model.set_attn_implementation("sdpa")
    for module in model.double().modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = lambda hidden, its=module: F.rms_norm(hidden, its.weight.shape, its.weight, its.variance_epsilon)
    return model


def gradient(lm: LanguageModel) -> torch.Tensor:
    """Return the gradient as one vector in float64."""
    return torch.cat([one.grad.flatten().double() for one in lm.trainable().values() if one.grad is not None])


def distances(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return for each case how far the gradients of both ways are from that in float64, and from each other, relative to its norm."""
    lm = load(options)
    made, losses, gradients = cases(lm, options.episodes), dict[str, float](), dict[str, torch.Tensor]()
    for case, trajectories in made.items():
        for way in WAYS:
            lm.zero_grad(set_to_none=True)
            losses[f"{case}/{way}"] = run(lm, way, trajectories, options.budget)
            gradients[f"{case}/{way}"] = gradient(lm)
    rows, model = [], double(lm)
    for case, trajectories in made.items():
        lm.zero_grad(set_to_none=True)
        loss, exact = in_float64(model, trajectories), gradient(lm)
        row: dict[str, Any] = {"case": case, "episodes": len(trajectories), "tokens": sum(map(length, trajectories))}
        for way in WAYS:
            row[f"{way}_loss"] = abs(losses[f"{case}/{way}"] / loss - 1)
            row[way] = float((gradients[f"{case}/{way}"] - exact).norm() / exact.norm())
        row["between"] = float((gradients[f"{case}/tree"] - gradients[f"{case}/rows"]).norm() / exact.norm())
        rows.append(row)
    return rows


def beside_float64(rows: Sequence[dict[str, Any]], command: str, what: str) -> str:
    """Return that part of the page."""
    lines = [BESIDE, "", f"`{command}`: {what}."]
    lines += ["Distances of the gradients, and of the losses, relative to those of plain transformers in float64, which reads each episode alone."]
    lines += ["Where rows are as far from float64 as the tree is, what both differ by is the rounding of float32.", ""]
    lines += ["| minibatch | tokens | gradient: rows | tree | rows to tree | loss: rows | tree |", "|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        figures = [row[name] for name in ("rows", "tree", "between", "rows_loss", "tree_loss")]
        lines.append(f"| {row['case']} | {row['tokens']:,} | " + " | ".join(f"{figure:.1e}" for figure in figures) + " |")
    return "\n".join(lines) + "\n"


def keep(times: str = "", beside: str = "") -> None:
    """Write a part of the page, and leave the other as it is."""
    before, _, after = RESULTS.read_text(encoding="utf-8").partition(BESIDE) if RESULTS.is_file() else ("", "", "")
    parts = [times or before.strip() + "\n", beside or (BESIDE + after if after else "")]
    RESULTS.write_text("\n".join(part for part in parts if part), encoding="utf-8")


def load(options: argparse.Namespace) -> LanguageModel:
    torch.set_num_threads(options.threads)
    lm = load_model(options.model, lora_rank=0 if options.model == "tiny" else 8, bfloat16=options.bfloat16)
    lm.eval()
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:  # at 0, half of the gradients would be 0
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(name)))
    if options.float64 and lm.config.model_type != "llama":
        raise SystemExit(f"--float64 knows the norms of llama only, and {options.model} is of {lm.config.model_type}")
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
    parser.add_argument("--episodes", type=int, help=f"of a minibatch (default: {EPISODES}, with --float64 {FEW['episodes']})")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=int, help=f"tokens in one forward pass (default: {BUDGET}, with --float64 {FEW['budget']})")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--float64", action="store_true", help="compare gradients with those in float64, instead of times")
    parser.add_argument("--no-memory", action="store_false", dest="memory", help="leave out the peaks, which take a process each")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name, few in FEW.items():
        if getattr(options, name) is None:
            setattr(options, name, few if options.float64 else {"episodes": EPISODES, "budget": BUDGET}[name])
    if options.peak:
        peak(options)
        return
    rows = distances(options) if options.float64 else measure(options)
    if options.json:
        print(json.dumps(rows))
        return
    command, kept = shlex.join(["python", "benchmarks/shared_prefix.py", *sys.argv[1:]]), options.model == "smollm2" and not options.bfloat16
    if options.float64:
        text = beside_float64(rows, command, f"{options.model}, {options.episodes} episodes, {options.budget} tokens a pass of rows and tree")
        print(text)
        if kept:
            keep(beside=text)
        return
    what = f"{options.model}, {'bfloat16' if options.bfloat16 else 'float32'}, {options.threads} thread(s), {options.budget} tokens a pass"
    lines = ["# What trajectories share, encoded once in training", "", f"`{command}`: {what};"]
    lines += [f"medians of {options.repeats}. Differences are relative; that of the gradient is of its norm.", ""]
    lines += ["| minibatch | tokens | rows, s | tree, s | times as fast | peak: rows, MB | tree, MB | loss differs by | gradient differs by |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        peaks = " | ".join(f"{row[f'{way}_mb']:,.0f}" if f"{way}_mb" in row else "" for way in WAYS)
        times = f"{row['rows_seconds']:.2f} | {row['tree_seconds']:.2f} | **{row['ratio']:.2f}**"
        lines.append(f"| {row['case']} | {row['tokens']:,} | {times} | {peaks} | {row['loss_difference']:.1e} | {row['gradient_difference']:.1e} |")
    print("\n".join(lines))
    if kept:
        keep(times="\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
