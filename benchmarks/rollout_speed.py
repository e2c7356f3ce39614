"""How fast does a language model play? The rollout engine beside re-encoding the transcript, and beside lockstep batches.

    python benchmarks/rollout_speed.py                          # all parts, SmolLM2-135M; writes benchmarks/results/rollout_speed.md
    python benchmarks/rollout_speed.py turns --prompt 4000      # one part, printed only
    python benchmarks/rollout_speed.py uneven --json
    python benchmarks/rollout_speed.py --against FOLDER         # nothing but the ratio to another version, whose checkout lies in the folder

Parts:
    turns   The same episodes three ways: ``generate`` of transformers on the whole transcript at every turn, and the engine.
            Prompts share all but their last 32 tokens, as episodes with one list of tools do. Greedy; the tokens are compared.
    uneven  Episodes of 1 to 8 turns and actions of uneven length, sampled: continuous batching beside lockstep on the same engine.
            Every episode draws from a generator of its own, so the tokens differ only where rounding does (a draw near a border).
    flat    Seconds per token of episodes of 1 to 64 steps, and the memory of the cache per live token.

Both sides of a ratio run in turn (A-B-A-B) in one process; medians count. Prompts and observations are this project's own
documentation, cut to length; what a tool would answer is the next piece of that text. On a GPU, --device cuda also prints the
share of the card's memory bandwidth and arithmetic that the rates come to (--bandwidth, --flops).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import versions
from engine_episodes import Text, episodes, with_engine

from steptool_agents import LanguageModel, load_model
from steptool_agents.generation.admission import Limits
from steptool_agents.generation.engine import Engine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "rollout_speed.md"


def say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr, flush=True)


@torch.inference_mode()
def encode_again(lm: LanguageModel, plan: list[list[list[int]]], new: int) -> list[list[int]]:
    """Play with ``generate``: the whole transcript at every turn, all episodes in one batch."""
    lm.model.set_attn_implementation("sdpa")
    transcripts: list[list[int]] = [[] for _ in plan]
    said: list[list[int]] = [[] for _ in plan]
    for turn in range(len(plan[0])):
        for transcript, episode in zip(transcripts, plan, strict=True):
            transcript += episode[turn]
        ids = torch.tensor(transcripts, device=lm.device)
        with torch.autocast(lm.device.type, dtype=torch.bfloat16, enabled=lm.autocast):
            out = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
        for row, transcript in enumerate(transcripts):
            said[row] += out[row, len(transcript) :].tolist()
            transcript += out[row, len(transcript) :].tolist()
    lm.model.set_attn_implementation("steptool")
    return said


def turns(lm: LanguageModel, options: argparse.Namespace, prompt: int) -> dict[str, Any]:
    plan = episodes(Text(lm), options.episodes, options.turns, prompt, options.observation)
    eos = lm.model.generation_config.eos_token_id
    stops = set(eos if isinstance(eos, list) else [eos])
    again, kept, agree = [], [], 1.0
    for _ in range(options.repeats):
        start = time.perf_counter()
        expected = encode_again(lm, plan, options.new)
        again.append(time.perf_counter() - start)
        start = time.perf_counter()
        found, _ = with_engine(lm, plan, options.new, stops)
        kept.append(time.perf_counter() - start)
        say(options, f"{len(kept)} of {options.repeats}, prompts of {prompt} tokens: again {again[-1]:.1f} s, engine {kept[-1]:.1f} s")
        agree = sum(a == b for x, y in zip(expected, found, strict=True) for a, b in zip(x, y, strict=True)) / sum(map(len, expected))
    return {
        "prompt": prompt,
        "episodes": options.episodes,
        "turns": options.turns,
        "dtype": "bfloat16" if lm.autocast else "float32",
        "again_s": statistics.median(again),
        "engine_s": statistics.median(kept),
        "ratio": statistics.median(a / b for a, b in zip(again, kept, strict=True)),
        "same_tokens": agree,
    }


@torch.inference_mode()
def uneven(lm: LanguageModel, options: argparse.Namespace) -> dict[str, Any]:
    text, draw = Text(lm, 1), random.Random(1)
    count = 3 * options.episodes
    plan = [one[: draw.randint(1, 8)] for one in episodes(text, count, 8, 256, options.observation)]
    short, long = 4, 8 if options.quick else 96
    # Most actions are short, some are long: lengths fall off like 1 / length.
    lengths = [[round(short * (long / short) ** draw.random()) for _ in one] for one in plan]

    def play(width: int, lockstep: bool) -> tuple[float, list[list[int]]]:
        said: list[list[int]] = [[] for _ in plan]
        at = [0] * count
        waiting, running = list(range(count)), set[int]()
        current: dict[int, int] = {}
        start = time.perf_counter()
        engine = Engine(lm, Limits(long, 1.0, 4096, 10**9), lambda ids: len(ids) >= current[id(ids)])

        def more(row: int) -> None:
            if at[row] == 0:
                engine.add(row, plan[row][0], seed=row)
            else:
                engine.extend(row, plan[row][at[row]])
            current[id(engine._sequences[row].written)] = lengths[row][at[row]]

        held: list[int] = []
        while waiting or running:
            if not running or not lockstep:
                while waiting and len(running) < width:
                    running.add(row := waiting.pop(0))
                    more(row)
            for row, one in engine.step():
                assert isinstance(row, int)
                said[row] += one.ids
                at[row] += 1
                if at[row] == len(plan[row]):
                    engine.drop(row)
                    running.discard(row)
                elif lockstep:
                    held.append(row)
                else:
                    more(row)
            if held and not engine.waits():
                for row in held:
                    more(row)
                held.clear()
        return time.perf_counter() - start, said

    ratios, slow, fast = [], [], []
    same = 1.0
    for _ in range(options.repeats):
        with lm.playing():
            lock, a = play(options.episodes, True)
            free, b = play(options.episodes, False)
        same = min(same, sum(x == y for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)) / sum(map(len, a)))
        slow.append(lock)
        fast.append(free)
        ratios.append(lock / free)
        say(options, f"{len(ratios)} of {options.repeats}, uneven: lockstep {lock:.1f} s, continuous {free:.1f} s")
    found = {"episodes": count, "width": options.episodes, "dtype": "bfloat16" if lm.autocast else "float32"}
    return {**found, "lockstep_s": statistics.median(slow), "continuous_s": statistics.median(fast), "ratio": statistics.median(ratios), "same_tokens": same}


def own(lm: LanguageModel) -> dict[str, float]:
    """Return milliseconds of processor time a token, the better of two: of eight answers of 32 tokens, and of eight episodes of four turns."""
    plans = {"decode": (episodes(Text(lm), 8, 1, 64, 0), 32), "rollout": (episodes(Text(lm), 8, 4, 128, 24), 8)}
    found = dict.fromkeys(plans, math.inf)
    for name, (plan, new) in [*plans.items()] * 2:
        start = time.process_time()
        said, _ = with_engine(lm, plan, new, {0})
        spent = time.process_time() - start
        found[name] = min(found[name], 1000 * spent / (sum(len(part) for one in plan for part in one) + sum(map(len, said))))
    return found


@torch.inference_mode()
def flat(lm: LanguageModel, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Cost per token encoded or written, and the cache's memory per live token, by the number of steps of an episode."""
    found = []
    eos = {lm.config.eos_token_id} if isinstance(lm.config.eos_token_id, int) else set(lm.config.eos_token_id)
    for steps in (1, 4) if options.quick else (1, 4, 16, 64):
        plan = [[text.take(8) for _ in range(steps)] for text in [Text(lm, 2)] for _ in range(8)]
        seconds, engine = [], None
        for _ in range(options.repeats):
            start = time.perf_counter()
            said, engine = with_engine(lm, plan, 4, eos)
            seconds.append(time.perf_counter() - start)
        assert engine is not None
        say(options, f"{steps} steps: {statistics.median(seconds):.1f} s")
        tokens = sum(len(part) for one in plan for part in one) + sum(map(len, said))
        encoded = engine.read_tokens + engine.written_tokens
        found.append({"steps": steps, "tokens": tokens, "encoded": encoded, "ms_per_token": 1000 * statistics.median(seconds) / tokens})
        found[-1] |= {"cache_tokens": engine.cache.tokens, "live_tokens": tokens}
    return found


def limits(lm: LanguageModel, options: argparse.Namespace) -> dict[str, Any]:
    """On a GPU: decoding beside the card's memory bandwidth, reading beside its arithmetic."""
    if options.device == "cpu":
        return {"measured": False, "reason": "no GPU was at hand; the same code runs on one with --device cuda"}
    weights = sum(parameter.numel() for parameter in lm.model.parameters())
    ids = torch.randint(5, 4000, (8, 2048), device=lm.device)
    with torch.inference_mode():
        for _ in range(3):
            lm.hidden(ids)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(5):
            lm.hidden(ids)
        torch.cuda.synchronize()
        reading = 5 * ids.numel() / (time.perf_counter() - start)
        plan = [[one] for one in ids[:, :64].tolist() * 8]
        with_engine(lm, plan, 16, {0})
        torch.cuda.synchronize()
        start = time.perf_counter()
        with_engine(lm, plan, 128, {0})
        torch.cuda.synchronize()
        passes = 128 / (time.perf_counter() - start)
    width = 2 if lm.autocast else 4
    return {
        "measured": True,
        "card": torch.cuda.get_device_name(),
        "read_tokens_per_second": reading,
        "share_of_flops": 2 * weights * reading / options.flops,
        "write_passes_per_second": passes,
        "share_of_bandwidth": weights * width * passes / options.bandwidth,
    }


def page(found: dict[str, Any], command: str) -> str:
    lines = ["# Speed of rollouts", "", f"`{command}`", ""]
    if "turns" in found:
        lines += ["The transcript encoded again at every turn (`generate`), beside the engine; by default 24 tokens written and 40 observed a turn.", ""]
        lines += ["| prompt | episodes × turns | dtype | again, s | engine, s | ratio | same tokens |", "|---|---|---|---|---|---|---|"]
        for one in found["turns"]:
            lines.append(
                f"| {one['prompt']} | {one['episodes']} × {one['turns']} | {one['dtype']} | {one['again_s']:.1f} | {one['engine_s']:.1f} "
                f"| **{one['ratio']:.1f}** | {100 * one['same_tokens']:.1f} % |"
            )
    if "uneven" in found:
        lines += ["", "Episodes of 1 to 8 turns, actions of 4 to 96 tokens: lockstep batches beside continuous batching.", ""]
        lines += ["| episodes, side by side | dtype | lockstep, s | continuous, s | ratio | same tokens |", "|---|---|---|---|---|---|"]
        for one in found["uneven"]:
            same = f"{100 * one['same_tokens']:.1f} %"
            times = f"{one['lockstep_s']:.1f} | {one['continuous_s']:.1f} | **{one['ratio']:.2f}**"
            lines.append(f"| {one['episodes']}, {one['width']} | {one['dtype']} | {times} | {same} |")
    if "flat" in found:
        lines += ["", "Cost by the length of an episode (8 episodes side by side, 8 tokens observed and 4 written a step).", ""]
        lines += ["| steps | tokens | encoded and written | ms a token | tokens the cache has room for, per live token |", "|---|---|---|---|---|"]
        for one in found["flat"]:
            room = one["cache_tokens"] / one["live_tokens"]
            lines.append(f"| {one['steps']} | {one['tokens']} | {one['encoded']} | {one['ms_per_token']:.1f} | {room:.2f} |")
    if "limits" in found:
        lines += ["", "GPU: " + ("; ".join(f"{key} {value}" for key, value in found["limits"].items()) if found["limits"]["measured"] else "not measured.")]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["all", "turns", "uneven", "flat", "limits"], default="all")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--prompt", type=int, nargs="*", default=[512, 4000], help="tokens of the first observation")
    parser.add_argument("--new", type=int, default=24, help="tokens written a turn")
    parser.add_argument("--observation", type=int, default=40, help="tokens observed a turn")
    parser.add_argument("--repeats", type=int, default=3, help="or pairs of processes with --against (default: 3)")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bandwidth", type=float, default=3.35e12, help="bytes a second of the card; H100 SXM by default")
    parser.add_argument("--flops", type=float, default=989e12, help="bfloat16 operations a second of the card")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of another version: print ratios to it, and nothing else")
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="2 episodes of 2 turns, 8 tokens written, once; writes no page")
    options = parser.parse_args()
    if options.quick:
        options.episodes, options.turns, options.new, options.repeats = 2, 2, 8, 1
        options.prompt = [min(prompt, 512) for prompt in options.prompt[:1]]
    if options.against:
        from steptool_agents.models.packaged import PACKAGED, converted  # a version that is named may not have it: that gets the folder

        model = str(converted(options.model)) if options.model in PACKAGED else options.model
        arguments = ["--own", "--model", model, "--threads", str(options.threads)]
        print(versions.table(versions.ratios(__file__, arguments, options.against, options.repeats), "ms"))
        return
    torch.set_num_threads(options.threads)
    lm = load_model(options.model, bfloat16=options.bfloat16, device=options.device)
    lm.eval()
    if options.own:
        print(json.dumps(own(lm)))
        return
    found: dict[str, Any] = {}
    if options.part in ("all", "turns"):
        found["turns"] = [turns(lm, options, prompt) for prompt in options.prompt]
    if options.part in ("all", "uneven"):
        found["uneven"] = [uneven(lm, options)]
    if options.part in ("all", "flat"):
        found["flat"] = flat(lm, options)
    if options.part in ("all", "limits"):
        found["limits"] = limits(lm, options)
    if options.json:
        print(json.dumps(found))
        return
    text = page(found, shlex.join(["python", "benchmarks/rollout_speed.py", *sys.argv[1:]]))
    print(text)
    if options.part == "all" and not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
