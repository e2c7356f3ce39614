"""What an update costs: tokens, operations, bytes and memory, from the model, the episodes, the batch and the machines.

    python benchmarks/scale_model.py                # calibrate, check, extrapolate; writes benchmarks/results/scale_model.md
    python benchmarks/scale_model.py --no-measure   # the extrapolation alone, in a second
    python benchmarks/scale_model.py --quick        # every point measured once, without a median; writes no page

The model has three rates of a device: operations a second while reading, while training, and bytes a second while writing (every
pass reads the weights and the keys and values of all rows; a row also costs operations). They are fitted to some measured
points of SmolLM2-135M on this machine and checked on others, among them a whole small update. For GPUs the rates are those of
the data sheet times the share that is usually reached (``Device``): assumptions, not measurements of this project.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "scale_model.md"


@dataclass(frozen=True)
class Model:
    """A decoder; parameters without the input embedding, which no operation multiplies."""

    name: str
    parameters: float
    layers: int
    hidden: int
    key_heads: int
    head: int
    vocabulary: int

    @property
    def body(self) -> float:
        """Parameters of the layers, without the projection onto the vocabulary."""
        return self.parameters - self.hidden * self.vocabulary

    def cache_bytes(self, width: int) -> float:
        """Bytes of keys and values per token."""
        return 2.0 * self.layers * self.key_heads * self.head * width

    def attention(self, context: float) -> float:
        """Operations of one token that attends to so many others."""
        return 4.0 * self.layers * self.hidden * context


@dataclass(frozen=True)
class Device:
    """Rates that are reached, not peaks."""

    name: str
    reading: float
    """Operations a second in passes over many tokens."""
    training: float
    """The same, forward and back."""
    bytes: float
    """Bytes of memory read a second while writing."""
    writing: float
    """Operations a second while writing: passes over one token per row."""
    memory: float
    """Bytes."""
    width: int = 2
    """Bytes of a weight while playing."""
    link: float = 50e9
    """Bytes a second to other machines, per device."""


@dataclass(frozen=True)
class Load:
    """An update."""

    episodes: int
    steps: int
    prompt: int
    """Tokens of the first observation."""
    shared: int
    """How many of them all episodes have in common."""
    new: int
    observation: int
    side_by_side: int
    """Episodes in one batch on one player."""
    epochs: int = 1
    lora: bool = False
    recompute: bool = False
    tool_seconds: float = 0.0

    @property
    def length(self) -> int:
        """Tokens of a trajectory."""
        return self.prompt + self.steps * self.new + (self.steps - 1) * self.observation


def read_seconds(model: Model, device: Device, tokens: float, context: float) -> float:
    return tokens * (2 * model.body + model.attention(context)) / device.reading


def pass_seconds(model: Model, device: Device, rows: int, context: float) -> float:
    """One pass that writes a token in each of the rows: memory and arithmetic, one after the other."""
    read = model.parameters * device.width
    live = rows * context * model.cache_bytes(device.width)
    return (read + live) / device.bytes + rows * (2 * model.parameters + model.attention(context)) / device.writing


def train_seconds(model: Model, device: Device, tokens: float, actions: float, context: float, *, lora: bool, recompute: bool, learn: bool = True) -> float:
    """Forward and back; adapters alone save the gradients of the weights. Without ``learn`` forward only (the reference)."""
    passes = 1.0 if not learn else (2.0 if lora else 3.0) + float(recompute)
    return passes * (tokens * (2 * model.body + model.attention(context)) + actions * 2 * model.hidden * model.vocabulary) / device.training


def update(model: Model, device: Device, load: Load, players: int = 1, learners: int = 1) -> dict[str, float]:
    """Return the seconds, tokens and bytes of one update; players and learners are numbers of devices."""
    per_player = load.episodes / players
    context = (load.prompt + load.length) / 2
    own = load.prompt - load.shared + (load.steps - 1) * load.observation
    reading = read_seconds(model, device, per_player * own + load.shared, context / 2)
    rounds = per_player / min(per_player, load.side_by_side)
    rows = round(min(per_player, load.side_by_side))
    # The shared beginning is read from memory once per pass, so it is counted as a part of the weights would be.
    live = context - load.shared + load.shared / rows
    writing = rounds * load.steps * load.new * pass_seconds(model, device, rows, live)
    tokens, actions = load.episodes * load.length / learners, load.episodes * load.steps * load.new / learners
    half = load.length / 2
    learning = load.epochs * train_seconds(model, device, tokens, actions, half, lora=load.lora, recompute=load.recompute)
    anchor = train_seconds(model, device, tokens, actions, half, lora=True, recompute=False, learn=False)
    trained = 0.01 * model.parameters if load.lora else model.parameters
    exchange = 2 * trained * 4 / device.link if learners > 1 else 0.0
    handover = trained * 2 / device.link if players > 1 else 0.0
    tools = rounds * load.steps * load.tool_seconds / max(1.0, rows)
    reread = anchor if players > 1 else 0.0  # values and log-probabilities of what servers have played
    cache = rows * (load.length - load.shared + load.new) * model.cache_bytes(device.width) + load.shared * model.cache_bytes(device.width)
    state = (model.parameters * 2 if load.lora else model.parameters * 16) / learners + trained * 16 * load.lora
    return {
        "read": reading,
        "write": writing,
        "tools": tools,
        "reread": reread,
        "reference": anchor,
        "train": learning,
        "exchange": exchange,
        "handover": handover,
        "tokens": load.episodes * load.length,
        "cache_bytes": cache,
        "weights_bytes_playing": model.parameters * device.width,
        "state_bytes_training": state,
    }


def run_seconds(play: float, learn: float, handover: float, updates: int, *, overlap: bool) -> float:
    """Return the seconds of a run in which servers play and others learn: in turn, or each update while the next one's episodes are played."""
    if not overlap:
        return updates * (play + learn + handover)
    return play + (updates - 1) * max(play, learn) + learn + updates * handover


SMOLLM2 = Model("SmolLM2-135M", 134.5e6, 30, 576, 3, 64, 49_152)
SEVEN = Model("7B", 7.6e9, 28, 3584, 4, 128, 152_064)
SEVENTY = Model("70B", 70.6e9, 80, 8192, 8, 128, 128_256)
H100 = Device("H100 (assumed shares)", 0.5 * 989e12, 0.4 * 989e12, 0.6 * 3.35e12, 0.3 * 989e12, 80e9)


# ---------------------------------------------------------------- measuring
def _in_turn(points: Mapping[str, Callable[[], Any]], rounds: int, say: Callable[[str], None]) -> dict[str, float]:
    """Return the median seconds of every point. All take turns, so that a machine whose speed drifts is no slower for some than for others."""
    samples: dict[str, list[float]] = {name: [] for name in points}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, run in points.items():
            if not number:
                run()  # caches and buffers
            start = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in samples.items()}


STEPS = 4
"""Tokens that each row writes in one measurement."""
READ, TRAIN, WRITE = ((1, 256), (4, 128)), (256, 512), (1, 4, 16, 32)
"""What the rates are fitted to: (rows, tokens), tokens, and rows after 128 tokens. All else is held out."""


def fit_writing(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Fit seconds = bytes · x + operations · y to points (bytes, operations, seconds), by least squares of the relative error.

    Neither share is negative: where noise would have it so, all time is spent on the other.
    """
    b2 = sum((b / t) ** 2 for b, _, t in points)
    f2 = sum((f / t) ** 2 for _, f, t in points)
    bf = sum(b * f / t**2 for b, f, t in points)
    b1, f1 = sum(b / t for b, _, t in points), sum(f / t for _, f, t in points)
    determinant = b2 * f2 - bf**2
    x, y = (b1 * f2 - f1 * bf) / determinant, (b2 * f1 - bf * b1) / determinant
    return (b1 / b2, 0.0) if y <= 0 else (0.0, f1 / f2) if x <= 0 else (x, y)


def measure(threads: int, *, quick: bool = False, say: Callable[[str], None] = lambda text: None) -> tuple[Device, list[dict[str, Any]]]:
    """Fit a device to some points and return it with the held-out ones."""
    import torch

    from steptool_agents import load_model
    from steptool_agents.generation.admission import Limits
    from steptool_agents.generation.engine import Engine
    from steptool_agents.learning.losses import action_logprobs

    torch.set_num_threads(threads)
    say("loading SmolLM2-135M")
    lm = load_model("smollm2", lora_rank=8, bfloat16=False)
    lm.eval()
    generator = torch.Generator().manual_seed(0)

    def ids(rows: int, length: int) -> torch.Tensor:
        return torch.randint(5, 40_000, (rows, length), generator=generator)

    def reading(rows: int, length: int) -> Callable[[], Any]:
        tokens = ids(rows, length)

        def run() -> None:
            with torch.inference_mode():
                lm.hidden(tokens)

        return run

    def writing(rows: int, context: int) -> Callable[[], Any]:
        prompts = ids(rows, context).tolist()
        engine = Engine(lm, Limits(4096, 0.0, 4096, 10**9), lambda ids: False)

        def run() -> None:
            with torch.inference_mode():
                if not engine.waits():  # the first time, which is not counted
                    for row, prompt in enumerate(prompts):
                        engine.add(row, prompt, row)
                    engine.step()
                for _ in range(STEPS):
                    engine.step()

        return run

    def training(length: int) -> Callable[[], Any]:
        tokens, share = ids(1, length), length * 3 // 10

        def run() -> None:
            hidden = lm.hidden(tokens)[0, :share]
            action_logprobs(hidden, lm.logits, tokens[0, 1 : share + 1])[0].sum().backward()

        return run

    load = Load(8, 3, 200, 168, 12, 24, 8, lora=True)
    plan = [[one, *ids(2, 24).tolist()] for one in ids(8, 200).tolist()]
    for one in plan:
        one[0][:168] = plan[0][0][:168]

    def whole() -> None:
        engine = Engine(lm, Limits(12, 0.0, 4096, 10**9), lambda ids: False)
        at = [0] * 8
        for row, one in enumerate(plan):
            engine.add(row, one[0], row)
        with torch.inference_mode():
            while engine.waits():
                for row, _ in engine.step():
                    assert isinstance(row, int)
                    at[row] += 1
                    if at[row] < 3:
                        engine.extend(row, plan[row][at[row]])
        for learn in (False, True):
            for _ in range(4):
                tokens = ids(2, load.length)
                with torch.set_grad_enabled(learn):
                    hidden = lm.hidden(tokens)[:, : load.steps * load.new].reshape(-1, SMOLLM2.hidden)
                    loss = action_logprobs(hidden, lm.logits, tokens[:, : load.steps * load.new].reshape(-1))[0].sum()
                if learn:
                    loss.backward()

    model, seconds = (
        SMOLLM2,
        _in_turn(
            {
                **{f"read {rows} × {length}": reading(rows, length) for rows, length in (*READ, (1, 768), (8, 96))},
                **{f"write {rows} after {context}": writing(rows, context) for rows, context in (*((rows, 128) for rows in WRITE), (8, 256))},
                **{f"train {length}": training(length) for length in (*TRAIN, 800)},
                "update": whole,
            },
            1 if quick else 5,
            say,
        ),
    )
    flops = [rows * length * (2 * model.body + model.attention(length / 2)) / seconds[f"read {rows} × {length}"] for rows, length in READ]
    device = Device("this processor, float32", statistics.mean(flops), 1.0, 1.0, 1.0, 1e9, 4)
    rates = [train_seconds(model, device, n, n * 0.3, n / 2, lora=True, recompute=False) / seconds[f"train {n}"] for n in TRAIN]
    points = []
    for rows in WRITE:
        operations = rows * (2 * model.parameters + model.attention(128))
        points.append((model.parameters * 4 + rows * 128 * model.cache_bytes(4), operations, seconds[f"write {rows} after 128"] / STEPS))
    per_byte, per_operation = fit_writing(points)
    infinite = float("inf")
    device = replace(
        device,
        training=statistics.mean(rates),
        bytes=1 / per_byte if per_byte else infinite,
        writing=1 / per_operation if per_operation else infinite,
    )
    parts = update(model, device, load)
    held = {
        "read 1 × 768": (read_seconds(model, device, 768, 384), seconds["read 1 × 768"]),
        "read 8 × 96": (read_seconds(model, device, 768, 48), seconds["read 8 × 96"]),
        "write, 8 rows after 256 tokens": (pass_seconds(model, device, 8, 256), seconds["write 8 after 256"] / STEPS),
        "train 1 × 800": (train_seconds(model, device, 800, 240, 400, lora=True, recompute=False), seconds["train 800"]),
        "a whole update, 8 episodes × 3 steps": (sum(parts[name] for name in ("read", "write", "reference", "train")), seconds["update"]),
    }
    return device, [{"point": name, "predicted_s": one, "measured_s": other, "error": one / other - 1} for name, (one, other) in held.items()]


# ---------------------------------------------------------------- carrying it on
def cluster(model: Model, parallel: int, gpus: int, players: int) -> dict[str, Any]:
    """Return what an update takes where so many servers, of ``parallel`` GPUs each, play, and the other GPUs learn."""
    load = Load(32 * gpus, 12, 5000, 4500, 96, 200, 64, epochs=1, recompute=True, tool_seconds=0.5)
    learners = gpus - players * parallel
    device = replace(H100, reading=H100.reading * parallel, bytes=H100.bytes * parallel, writing=H100.writing * parallel, memory=H100.memory * parallel)
    playing = update(model, device, load, players=players, learners=1)
    learning = update(model, H100, load, players=2, learners=learners)
    one = {name: playing[name] for name in ("read", "write", "tools", "cache_bytes", "weights_bytes_playing", "tokens")}
    one |= {name: learning[name] for name in ("reread", "reference", "train", "exchange", "handover", "state_bytes_training")}
    one["play"], one["learn"] = one["read"] + one["write"] + one["tools"], one["reread"] + one["reference"] + one["train"] + one["exchange"]
    for name, overlap in (("in_turn", False), ("ahead", True)):
        one[name] = run_seconds(one["play"], one["learn"], one["handover"], 100, overlap=overlap) / 100
    phases = {
        "generating": one["read"] + one["write"],
        "training": one["reread"] + one["reference"] + one["train"],
        "exchanging weights": one["exchange"] + one["handover"],
    }
    room = device.memory - one["weights_bytes_playing"]
    fits = {"players": one["cache_bytes"] <= 0.9 * room, "learners": one["state_bytes_training"] <= 0.7 * H100.memory}
    full = [f"memory of the {name}" for name, fit in fits.items() if not fit]
    binds = full[0] if full else max(phases.items(), key=lambda pair: pair[1])[0]
    return {"model": model.name, "gpus": gpus, "players": players, "gpus_per_player": parallel, "learners": learners, **one, "binds": binds}


def extrapolate() -> list[dict[str, Any]]:
    """7B and 70B on 8 and 512 GPUs: half of them learn, the others serve; and, under ``best``, the division that is best with overlap."""
    found = []
    for model, parallel in ((SEVEN, 1), (SEVENTY, 4)):
        for gpus in (8, 512):
            divided = [cluster(model, parallel, gpus, players) for players in range(1, gpus // parallel)]
            best = min(divided, key=lambda one: one["ahead"])
            found.append({**divided[gpus // 2 // parallel - 1], "best": {name: best[name] for name in ("players", "learners", "in_turn", "ahead")}})
    return found


ADVICE = {
    "generating": "more of the GPUs as servers, or more episodes side by side on each",
    "training": "more of the GPUs as learners, fewer epochs, or LoRA",
    "exchanging weights": "LoRA: the adapters alone travel",
    "memory of the players": "more GPUs per server, or fewer episodes side by side",
    "memory of the learners": "more learners to shard over, or LoRA: the optimizer holds adapters only",
}


def page(device: Device | None, held: list[dict[str, Any]], table: list[dict[str, Any]], command: str) -> str:
    lines = ["# What an update costs", "", f"`{command}`", ""]
    if device is not None:
        rates = f"reading {device.reading / 1e9:.0f} and training {device.training / 1e9:.0f} GFLOP/s, writing {device.bytes / 1e9:.1f} GB/s"
        lines += [f"Fitted to {device.name}: {rates} and {device.writing / 1e9:.0f} GFLOP/s. Held-out points:", ""]
        lines += ["| point | predicted, s | measured, s | error |", "|---|---|---|---|"]
        lines += [f"| {one['point']} | {one['predicted_s']:.3f} | {one['measured_s']:.3f} | {100 * one['error']:+.0f} % |" for one in held]
        lines.append("")
    lines += [
        "Carried on (not measured): 32 episodes per GPU, 12 steps, prompts of 5,000 tokens with 4,500 in common, 96 tokens written and 200 read a step,",
        "full fine-tuning in bfloat16 with AdamW, sharded over the learners; shares of the data sheet as in `H100`.",
        "",
        "| model | GPUs | servers | learners | read, s | write, s | tools, s | reread, s | reference, s | train, s | exchange, s | handover, s "
        "| cache a server, GB | state a learner, GB | binds first | change |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in table:
        seconds = " | ".join(f"{one[name]:.1f}" for name in ("read", "write", "tools", "reread", "reference", "train", "exchange", "handover"))
        memory = f"{one['cache_bytes'] / 1e9:.0f} | {one['state_bytes_training'] / 1e9:.0f}"
        servers = f"{one['players']} × {one['gpus_per_player']}"
        lines.append(f"| {one['model']} | {one['gpus']} | {servers} | {one['learners']} | {seconds} | {memory} | {one['binds']} | {ADVICE[one['binds']]} |")
    lines += [
        "",
        "Per update. With `overlap`, servers play the next episodes while the learners learn: it takes the longer of the two instead of both, so it saves the",
        "shorter one, at best half of the time, and little where one takes most of it. So it pays once the GPUs are divided so that both take as long:",
        "`best` is the division with the shortest overlapped update (no regard to memory).",
        "",
        "| model | GPUs | playing, s | learning, s | in turn, s | overlapped, s | ratio | best: servers and learners | in turn, s | overlapped, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in table:
        best = one["best"]
        seconds = f"{one['play']:.1f} | {one['learn']:.1f} | {one['in_turn']:.1f} | {one['ahead']:.1f} | {one['ahead'] / one['in_turn']:.2f}"
        division = f"{best['players']} × {one['gpus_per_player']} and {best['learners']} | {best['in_turn']:.1f} | {best['ahead']:.1f}"
        lines.append(f"| {one['model']} | {one['gpus']} | {seconds} | {division} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-measure", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    def say(text: str) -> None:
        if not options.json:
            print(text, file=sys.stderr, flush=True)

    device, held = (None, []) if options.no_measure else measure(options.threads, quick=options.quick, say=say)
    table = extrapolate()
    if options.json:
        print(json.dumps({"held_out": held, "extrapolated": table}))
        return
    text = page(device, held, table, shlex.join(["python", "benchmarks/scale_model.py", *sys.argv[1:]]))
    print(text)
    if not options.no_measure and not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
