"""Decoding with weights made for playing, beside the weights that learn, and beside transformers' generate: tokens a second by batch size.

    python benchmarks/decode_speed.py                     # SmolLM2-135M, bfloat16, LoRA rank 8 and all weights; writes benchmarks/results/decode_speed.md
    python benchmarks/decode_speed.py --batch 8 --ranks 8 --repeats 1
    python benchmarks/decode_speed.py --vllm              # beside a real vLLM, too, which is installed for it (serving_parts/vllm_process.py)

Every sequence has a context of 512 random tokens of its own; what is timed are steps that write one token of each, in CPU time. The two kinds of
weights take turns on the same sequences (A-B-A-B), medians count. ``generate`` and vLLM run once: their time is that of a longer answer less that of
a shorter one. vLLM's is the processor time of the process that computes; it has read the sequences before (prefix cache), and has no adapters.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from steptool_agents import ChatClient, LanguageModel, load_model
from steptool_agents.generation.admission import Limits
from steptool_agents.generation.choice import make_engine
from steptool_agents.models.packaged import PACKAGED, converted
from steptool_agents.servers.client import Failure

RESULTS = Path(__file__).parent / "results" / "decode_speed.md"
STEPS = 6
MOST_WRITTEN = 128
"""Longest action: the cache has room for it from the beginning."""
MOST_READ = 16_384
"""Tokens that ``generate`` can read in one pass: twice as many took more than 24 GB."""
WAYS = {"learning": "the weights that learn", "playing": "weights made for playing", "generate": "`generate`", "vllm": "vLLM"}


def prompts(lm: LanguageModel, batch: int, context: int) -> list[list[int]]:
    """Return random token ids."""
    rng = random.Random(0)
    return [[rng.randrange(5, lm.vocabulary) for _ in range(context)] for _ in range(batch)]


def steps_of(lm: LanguageModel, batch: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of a step, with the weights that learn and with those made for playing, in turn on the same sequences."""
    spent: dict[str, list[float]] = {"learning": [], "playing": []}
    with torch.inference_mode():
        writer = make_engine(lm, Limits(MOST_WRITTEN, 1.0, 16_384, 10**9), lambda ids: False)
        for index, ids in enumerate(prompts(lm, batch, options.context)):
            writer.add(index, ids, index)
        while writer.read_tokens < batch * options.context:
            writer.step()
        for _ in range(options.repeats):
            for way, seconds in spent.items():
                lm.copies.enabled = way == "playing"
                with lm.playing():
                    if way == "playing" and not lm.copies.copied:
                        raise SystemExit("no copies were made, so there is nothing to compare; the log says why")
                    writer.step()
                    started = time.process_time()
                    for _ in range(STEPS):
                        writer.step()
                    seconds.append((time.process_time() - started) / STEPS)
    return spent


def generate(model: Any, ids: torch.Tensor) -> float:
    """Return the seconds of a step of ``generate``: of an answer of many tokens, less one of two."""

    def seconds(count: int) -> float:
        started = time.process_time()
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, min_new_tokens=count, max_new_tokens=count, pad_token_id=0)
        return time.process_time() - started

    few = seconds(2)
    return (seconds(2 + 2 * STEPS) - few) / (2 * STEPS)


def vllm(lm: LanguageModel, options: argparse.Namespace) -> dict[int, float]:
    """Return the tokens that a vLLM writes a second of processor time, by batch size."""
    from serving_parts.vllm_process import Server, environment

    folder = converted(options.model) if options.model in PACKAGED else Path(options.model)
    rates = {}
    with tempfile.TemporaryDirectory() as place:
        settings: dict[str, Any] = {"dtype": "bfloat16", "threads": options.threads, "requests": max(options.batch)}
        with Server(environment(lambda text: print(text, file=sys.stderr)), folder, "model", Path(place) / "log", **settings) as server:
            client = ChatClient(server.endpoint, timeout=600.0)
            for batch in options.batch:
                sequences = prompts(lm, batch, options.context)

                def seconds(count: int, sequences: list[list[int]] = sequences) -> float:
                    body = {"model": "model", "prompt": sequences, "max_tokens": count, "min_tokens": count, "ignore_eos": True, "temperature": 1.0}
                    started = server.processor_seconds()
                    answer = client.post("/v1/completions", {**body, "top_k": -1, "top_p": 1.0})
                    if isinstance(answer, Failure):
                        raise answer
                    return server.processor_seconds() - started

                seconds(1)  # reads them
                few = seconds(2)
                rates[batch] = batch * 4 * STEPS / (seconds(2 + 4 * STEPS) - few)
                print(f"vLLM, batch {batch}: {rates[batch]:.1f} tokens/s", file=sys.stderr, flush=True)
            client.close()
    return rates


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per rank and batch size."""
    torch.set_num_threads(options.threads)
    served: dict[int, float] = vllm(load_model(options.model), options) if options.vllm else {}
    model: Any = load_model(options.model, bfloat16=False).model.to(torch.bfloat16)
    model.set_attn_implementation("sdpa")
    theirs: dict[int, float] = {}
    rows = []
    for rank in options.ranks:
        lm = load_model(options.model, lora_rank=rank, bfloat16=True)
        for name, parameter in lm.named_parameters():
            if "lora_B" in name:  # at 0 they change nothing, as before any training, and copies can only say the same
                torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(name)))
        for batch in options.batch:
            if batch not in theirs and batch * options.context <= MOST_READ:
                theirs[batch] = batch / generate(model, torch.tensor(prompts(lm, batch, options.context)))
            spent = steps_of(lm, batch, options)
            row: dict[str, Any] = {"rank": rank, "batch": batch} | {way: batch / statistics.median(seconds) for way, seconds in spent.items()}
            row |= {"ratio": statistics.median(a / b for a, b in zip(spent["learning"], spent["playing"], strict=True)), "generate": theirs.get(batch)}
            row["vllm"] = served.get(batch)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 0], help="of adapters; 0: all weights learn (default: 8 0)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 64], help="sequences side by side (default: 1 8 32 64)")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vllm", action="store_true", help="beside a real vLLM, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options)
    if options.json:
        print(json.dumps(rows))
        return
    whole = options.batch == parser.get_default("batch") and options.ranks == parser.get_default("ranks")
    lines = ["# Decoding", "", f"`{shlex.join(['python', 'benchmarks/decode_speed.py', *sys.argv[1:]])}`: {options.model}, bfloat16, context of"]
    lines += [f"{options.context} tokens, {options.threads} thread(s), tokens per second of CPU time; medians of {options.repeats}, ratios within a turn.", ""]
    ways = [way for way in WAYS if way != "vllm" or options.vllm]
    over = [name for name in ("generate", "vllm") if name in ways]
    heads = [*(WAYS[way] for way in ways), "times the first", *(f"times {WAYS[name]}" for name in over)]
    lines += [f"| | batch | {' | '.join(heads)} |", "|---|" + "---:|" * (1 + len(heads))]
    for row in rows:
        label = f"LoRA, rank {row['rank']}" if row["rank"] else "all weights"
        speeds = " | ".join("out of memory" if row[way] is None else f"{row[way]:.1f}" for way in ways)
        shares = " | ".join(f"{row['playing'] / row[name]:.2f}" if row[name] else "" for name in over)
        lines.append(f"| {label} | {row['batch']} | {speeds} | **{row['ratio']:.2f}** | {shares} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if whole:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
