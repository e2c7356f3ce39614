"""One PPO update: 8 trajectories of 300 to 1,500 tokens, 4 epochs, LoRA rank 8, SmolLM2-135M; and the same for ``tiny`` by phase.

    python benchmarks/ppo_update.py                      # both; writes benchmarks/results/ppo_update.md
    python benchmarks/ppo_update.py smollm2 --threads 2 --float32
    python benchmarks/ppo_update.py tiny --json
    python benchmarks/ppo_update.py smollm2 --plain      # the same update as the paper's trainer does it, too
    python benchmarks/ppo_update.py --quick              # shorter trajectories, one epoch, fewer episodes; writes no page

``smollm2``: reference log-probabilities once, then 4 epochs of one optimizer step, 30 % action tokens; seconds.
``--plain``: the same trajectories, model and number of epochs as in trl 0.10.1, which the paper's code trains with: float32, minibatches of
two padded sequences, every token projected onto the vocabulary, and one pass of the old and one of the reference policy before the epochs.
``tiny``: one update of the default run (128 episodes played, then learnt from); the share of the wall time that is spent inside
PyTorch's operators (self time of ``aten``, of backward passes too, by torch.profiler), so without Python, environments and text.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.tuners import lora
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from train_speed import trajectory
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from steptool_agents import Config, LanguageModel, LMPolicy, Passes, Trajectory, assign_credit, improve, load_model, policy_optimizer, rollout
from steptool_agents.config import LearningConfig
from steptool_agents.learning.batches import collate, length
from steptool_agents.models.adapters import AdaptedLinear
from steptool_agents.parallel.profiling import metrics, rows
from steptool_env import StepToolEnv, make_suite

RESULTS = Path(__file__).parent / "results" / "ppo_update.md"


def setting(options: argparse.Namespace, *, bfloat16: bool | None) -> tuple[LanguageModel, list[Trajectory], LearningConfig]:
    """Return SmolLM2-135M with adapters, 8 trajectories of 300 to 1,500 tokens, and the settings of the update."""
    say(options, "loading SmolLM2-135M")
    lm = load_model("smollm2", lora_rank=8, bfloat16=bfloat16)
    draw = random.Random(0)
    sizes = [300 + round(1200 * k / 7) for k in range(8)]
    if options.quick:
        sizes = [size // 8 for size in sizes[:4]]
    made = []
    for seed, size in enumerate(sizes):
        steps = draw.randint(3, 8)
        action = round(0.3 * size / steps)
        made.append(trajectory([(size // steps - action, action)] * steps, lm.vocabulary, seed))
    return lm, made, LearningConfig(epochs=1 if options.quick else 4, minibatches=1, kl=0.01)


def smollm2(options: argparse.Namespace) -> dict[str, Any]:
    lm, made, learning = setting(options, bfloat16=False if options.float32 else None)
    passes = Passes(lm, token_budget=2048)
    lengths = [length(one) for one in made]
    reference = {name: parameter.detach().clone() for name, parameter in lm.trainable().items()}
    optimizer = policy_optimizer(lm, 0.0)
    lm.profiler.take()
    say(options, f"one update on {sum(lengths):,} tokens, {learning.epochs} epoch(s)")
    start = time.perf_counter()
    improve(passes, optimizer, assign_credit(made, 1.0, 0.95), learning, np.random.default_rng(0), reference)
    seconds = time.perf_counter() - start
    say(options, f"{seconds:.1f} s")
    size = {"trajectories": len(lengths), "tokens": sum(lengths), "epochs": learning.epochs, "threads": options.threads}
    return {**size, "dtype": "bfloat16" if lm.autocast else "float32", "seconds": seconds, "profile": metrics(lm.profiler.take())}


def plain(options: argparse.Namespace) -> dict[str, Any]:
    """The update of ``smollm2`` with nothing saved: the passes, the padding and the projections of the paper's trainer."""
    lm, made, learning = setting(options, bfloat16=False)
    lm.model.get_base_model().set_attn_implementation("sdpa")
    for module in lm.model.modules():  # as peft and transformers compute it
        if isinstance(module, AdaptedLinear):
            module.__class__ = lora.Linear
        elif type(module).__name__ == "LlamaRMSNorm":
            module.__class__ = LlamaRMSNorm
    parameters = [one for one in lm.model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW([*parameters, *lm.value_head.parameters()], lr=0.0)
    say(options, f"the same update in the plain way, {learning.epochs} epoch(s)")
    start = time.perf_counter()
    batches = [collate(made[first : first + 2]) for first in range(0, len(made), 2)]
    with torch.no_grad():
        old = [_every_logprob(lm, batch.ids)[0] for batch in batches]
        with lm.model.disable_adapter():
            reference = [_every_logprob(lm, batch.ids)[0] for batch in batches]
    for epoch in range(learning.epochs):
        say(options, f"epoch {epoch + 1} of {learning.epochs}, {time.perf_counter() - start:.0f} s")
        optimizer.zero_grad(set_to_none=True)
        for batch, before, ref in zip(batches, old, reference, strict=True):
            logprobs, _, values = _every_logprob(lm, batch.ids)
            mask = torch.zeros_like(logprobs)
            width = batch.ids.shape[1]
            mask[batch.token_at // width, batch.token_at % width] = 1.0
            ratio = torch.exp(logprobs - before)
            advantages = before - ref + 1.0  # any numbers: they cost the same
            surrogate = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
            loss = ((surrogate + 0.1 * (values[:, :-1] - 1.0) ** 2) * mask).sum() / mask.sum()
            (loss / len(batches)).backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    say(options, f"{seconds:.1f} s")
    return {"seconds": seconds, "threads": options.threads}


def _every_logprob(lm: LanguageModel, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies (B, L - 1) of all tokens but the first, and values (B, L)."""
    out = lm.model(input_ids=ids, use_cache=False, output_hidden_states=True)
    logp = torch.log_softmax(out.logits, dim=-1)
    with torch.no_grad():  # a diagnostic there
        spread = torch.logsumexp(out.logits, dim=-1) - (torch.softmax(out.logits, dim=-1) * out.logits).sum(-1)
    hidden = out.hidden_states[-1]
    return logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0], spread[:, :-1], lm.value_head(hidden, hidden)


def tiny(options: argparse.Namespace) -> dict[str, Any]:
    config = Config.of(episodes=16) if options.quick else Config()
    task, learning, episodes = config.task, config.learning, config.rollout.episodes
    lm = load_model("tiny")
    suite = make_suite(task.suite, **task.suite_options, split="train")
    envs = [StepToolEnv(suite, task.shaper) for _ in range(episodes)]
    policy = LMPolicy(lm, max_new_tokens=config.rollout.max_new_tokens, token_budget=config.model.token_budget)
    passes = Passes(lm, token_budget=config.model.token_budget)
    rng = np.random.default_rng(0)
    optimizer = policy_optimizer(lm, 0.0)
    reference = {name: parameter.detach().clone() for name, parameter in lm.trainable().items()}

    def update() -> float:
        policy.forget()
        lm.profiler.take()
        start = time.perf_counter()
        played = rollout(policy, envs, rng.integers(len(suite), size=episodes).tolist())
        improve(passes, optimizer, assign_credit(played, learning.gamma, learning.lam), learning, rng, reference)
        return time.perf_counter() - start

    say(options, f"tiny: {episodes} episodes an update, {options.repeats + 2} updates")
    update()
    seconds = [update() for _ in range(options.repeats)]
    say(options, f"tiny: {float(np.median(seconds)):.2f} s an update; now under the profiler")
    phases = metrics(lm.profiler.take())
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        wall = update()
    inside = sum(one.self_cpu_time_total for one in seen.key_averages() if one.key.startswith("aten::")) / 1e6
    return {"episodes": episodes, "seconds": float(np.median(seconds)), "profile": phases, "share_in_kernels": inside / wall, "wall_profiled": wall}


def say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr, flush=True)


def table(phases: dict[str, float]) -> list[str]:
    lines = ["| phase | seconds | % | tokens | tokens/s |", "|---|---|---|---|---|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows([phases]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["all", "smollm2", "tiny"], default="all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--plain", action="store_true", help="also take the update of smollm2 in the way of the paper's trainer")
    parser.add_argument("--repeats", type=int, default=3, help="for tiny")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs; writes no page")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 1
    torch.set_num_threads(options.threads)
    found = {name: run(options) for name, run in (("tiny", tiny), ("smollm2", smollm2)) if options.part in ("all", name)}
    if options.plain:
        found["plain"] = plain(options)
    if options.json:
        print(json.dumps(found))
        return
    lines = ["# An update of PPO", "", f"`{shlex.join(['python', 'benchmarks/ppo_update.py', *sys.argv[1:]])}`"]
    if "tiny" in found:
        one = found["tiny"]
        share = f"{100 * one['share_in_kernels']:.0f} % inside PyTorch's operators"
        lines += ["", f"`tiny`, {one['episodes']} episodes, {options.threads} thread(s): {one['seconds']:.2f} s; {share}.", ""]
        lines += table(one["profile"])
    if "smollm2" in found:
        one = found["smollm2"]
        size = f"{one['trajectories']} trajectories, {one['tokens']:,} tokens, {one['epochs']} epoch(s)"
        what = f"{size}, LoRA rank 8, {one['dtype']}, {one['threads']} thread(s)"
        lines += ["", f"SmolLM2-135M, {what}: {one['seconds']:.1f} s.", ""]
        lines += table(one["profile"])
    if "plain" in found:
        ratio = f", {found['plain']['seconds'] / found['smollm2']['seconds']:.1f} times as long" if "smollm2" in found else ""
        lines += ["", f"The same update as the paper's trainer does it, float32, {options.threads} thread(s): {found['plain']['seconds']:.1f} s{ratio}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.part == "all" and not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
