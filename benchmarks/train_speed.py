"""Training on whole trajectories, encoded once, beside one sample per step: trajectories a second, peak memory, gradients.

    python benchmarks/train_speed.py               # SmolLM2-135M, LoRA rank 8; writes benchmarks/results/train_speed.md
    python benchmarks/train_speed.py --bfloat16 --json

A trajectory has 8 steps, about 1,000 tokens, 30 % of them action tokens. One sample per step reads everything before a step
again for each step, and projects every token onto the vocabulary, as trainers of single-turn models do. Both sides compute the
same loss (mean negative log-likelihood of action tokens) and its gradient; they run in turn (A-B-A-B), medians count. The peak
is that of a process of its own for each side, less what it held after a first pass over a few tokens, when libraries are loaded. In
these processes the C library gives every block of 256 KB and more back at once (``MALLOC_MMAP_THRESHOLD_``): otherwise it keeps up
to several hundred MB of freed blocks, and what is measured is its habits, not what training needs.
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
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import status

from steptool_agents import Generation, LanguageModel, Passes, Step, Trajectory, load_model
from steptool_agents.learning.batches import length
from steptool_agents.models.recompute import recompute
from steptool_env import Outcome, Task, ToolCall, ToolResult, Transition

GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
RESULTS = Path(__file__).parent / "results" / "train_speed.md"


def trajectory(steps: Sequence[tuple[int, int]], vocabulary: int, seed: int) -> Trajectory:
    """Return a trajectory of random tokens with these numbers of context and action tokens per step."""
    generator = torch.Generator().manual_seed(seed)
    task, call = Task("t", "Do it.", ("finish",), len(steps)), ToolCall("finish")
    made = []
    for t, (context, action) in enumerate(steps):
        last = t == len(steps) - 1
        ids = torch.randint(5, vocabulary, (context + action,), generator=generator).tolist()
        generation = Generation("", call, tuple(ids[:context]), tuple(ids[context:]), (-1.0,) * action, 0.0)
        made.append(Step(generation, Transition(task, t, call, ToolResult(""), last, False, Outcome(1.0) if last else None), {"all": float(last)}, False))
    return Trajectory(tuple(made))


STEPS = [(206, 37)] + [(71, 38)] * 7
"""8 steps, 1,006 tokens, 303 of them action tokens."""
SHORT = [(context // 4, action // 4) for context, action in STEPS]


def whole(lm: LanguageModel, trajectories: Sequence[Trajectory], token_budget: int) -> float:
    """Set gradients from whole trajectories; return the loss."""
    tokens = sum(len(step.generation.token_ids) for one in trajectories for step in one.steps)
    total = 0.0
    for encoded in Passes(lm, token_budget=token_budget).encode([(one,) for one in trajectories]):
        loss = -encoded.logprobs().sum() / tokens
        loss.backward()
        total += float(loss.detach())
    return total


def per_step(lm: LanguageModel, trajectories: Sequence[Trajectory], token_budget: int) -> float:
    """The same from one sample per step: its whole context again, and logits of every token."""
    del token_budget  # one sample at a time: the most frugal way to do it
    tokens = sum(len(step.generation.token_ids) for one in trajectories for step in one.steps)
    total = 0.0
    for one in trajectories:
        context: list[int] = []
        for step in one.steps:
            context += step.generation.prompt_ids
            ids = torch.tensor([[*context, *step.generation.token_ids]])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lm.autocast):
                logits = lm.model(input_ids=ids, use_cache=False).logits
            logprobs = F.log_softmax(logits[0, :-1].float(), dim=-1).gather(-1, ids[0, 1:, None])[:, 0]
            loss = -logprobs[len(context) - 1 :].sum() / tokens
            loss.backward()
            total += float(loss.detach())
            context += step.generation.token_ids
    return total


def selective(lm: LanguageModel, trajectories: Sequence[Trajectory], token_budget: int) -> float:
    """Whole trajectories; what costs little is computed again."""
    return _again(lm, "selective", trajectories, token_budget)


def recomputed(lm: LanguageModel, trajectories: Sequence[Trajectory], token_budget: int) -> float:
    """Whole trajectories; whole layers are computed again."""
    return _again(lm, True, trajectories, token_budget)


def _again(lm: LanguageModel, what: bool | str, trajectories: Sequence[Trajectory], token_budget: int) -> float:
    base: Any = lm.model.get_base_model()  # type: ignore[operator]
    lm._recomputed = recompute(base, what)
    try:
        return whole(lm, trajectories, token_budget)
    finally:
        lm._recomputed = []
        lm.eval()


WAYS = {"whole": whole, "selective": selective, "recomputed": recomputed, "per_step": per_step}
OURS = {"whole": "whole trajectory", "selective": "`gradient_checkpointing=selective`", "recomputed": "`gradient_checkpointing=true`"}


def load(options: argparse.Namespace) -> tuple[LanguageModel, list[Trajectory]]:
    torch.set_num_threads(options.threads)
    lm = load_model(options.model, lora_rank=8, bfloat16=options.bfloat16)
    lm.eval()
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:  # at 0, half of the gradients would be 0
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(name)))
    return lm, [trajectory(SHORT if options.quick else STEPS, lm.vocabulary, seed) for seed in range(options.trajectories)]


def peak(options: argparse.Namespace) -> None:
    """Print the peak of this process's memory above that with the model and all libraries loaded, in MB."""
    lm, trajectories = load(options)
    WAYS[options.peak](lm, [trajectory([(8, 4)], lm.vocabulary, 0)], options.budget)
    lm.zero_grad(set_to_none=True)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    before = status("VmRSS")
    WAYS[options.peak](lm, trajectories[:1], options.budget)
    print(json.dumps({"peak_mb": (status("VmHWM") - before) / 1024}))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    lm, trajectories = load(options)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    losses: dict[str, float] = {}
    gradients: dict[str, dict[str, torch.Tensor]] = {}
    peaks = {}
    for way in WAYS:  # first, while nothing else runs in this process
        command = [sys.executable, __file__, *sys.argv[1:], "--peak", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **GIVE_BACK})
        peaks[way] = json.loads(done.stdout.splitlines()[-1])["peak_mb"]
        _say(options, f"peak of {way}: {peaks[way]:.0f} MB")
    for repeat in range(options.repeats):
        for way, train in WAYS.items():
            lm.zero_grad(set_to_none=True)
            start = time.perf_counter()
            losses[way] = train(lm, trajectories, options.budget)
            seconds[way].append(time.perf_counter() - start)
            gradients[way] = {name: parameter.grad.clone() for name, parameter in lm.trainable().items() if parameter.grad is not None}
            _say(options, f"{repeat + 1} of {options.repeats}: {way} {seconds[way][-1]:.1f} s")
    scale = sum(float(one.square().sum()) for one in gradients["per_step"].values())
    found: dict[str, Any] = {"dtype": "bfloat16" if options.bfloat16 else "float32", "tokens": sum(map(length, trajectories)) // len(trajectories)}
    for way in WAYS:
        ratios = [b / a for a, b in zip(seconds[way], seconds["per_step"], strict=True)]
        difference = sum(float((gradients[way][name] - one).square().sum()) for name, one in gradients["per_step"].items())
        found[way] = {
            "seconds": statistics.median(seconds[way]) / options.trajectories,
            "ratio": statistics.median(ratios),
            "peak_mb": peaks[way],
            "peak_share": peaks[way] / peaks["per_step"],
            "loss_difference": abs(losses[way] - losses["per_step"]) / losses["per_step"],
            "gradient_difference": (difference / scale) ** 0.5,
        }
    return found


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--trajectories", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=int, default=2048, help="tokens in one forward pass")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--quick", action="store_true", help="trajectories of a quarter of the length, once; writes no page")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 1
    if options.peak:
        peak(options)
        return
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return
    command = shlex.join(["python", "benchmarks/train_speed.py", *sys.argv[1:]])
    base = found["per_step"]
    what = f"{options.model}, LoRA rank 8, {len(STEPS)} steps, {found['tokens']:,} tokens, {options.threads} thread(s), {found['dtype']}"
    lines = ["# Training on whole trajectories", "", f"`{command}`: {what}; medians of {options.repeats}.", ""]
    lines += ["| | seconds a trajectory | times as fast | peak above the model, MB | share | loss differs by | gradient differs by |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines.append(f"| one sample per step | {base['seconds']:.1f} | 1 | {base['peak_mb']:.0f} | 1 | | |")
    for way, label in OURS.items():
        one = found[way]
        differ = f"{one['loss_difference']:.1e} | {one['gradient_difference']:.1e}"
        lines.append(f"| {label} | {one['seconds']:.1f} | **{one['ratio']:.2f}** | {one['peak_mb']:.0f} | **{one['peak_share']:.2f}** | {differ} |")
    lines += ["", "One sample per step is measured at its most frugal, one sample at a time; batches of samples take a multiple of its memory."]
    lines += ["Differences are relative to one sample per step; that of the gradient is of its norm."]
    text = "\n".join(lines) + "\n"
    print(text)
    if not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
