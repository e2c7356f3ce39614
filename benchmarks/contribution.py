"""How good is a contribution signal? Each is compared with the exact contribution of every call, on a suite that knows it.

    python benchmarks/contribution.py                     # writes benchmarks/results/contribution.md and .png
    python benchmarks/contribution.py --episodes 20 --json
    python benchmarks/contribution.py --endpoint http://127.0.0.1:8000/v1 --judge-model NAME --cache judgments

Oracles that err with probability 0.1, 0.25, 0.5 or 0.75 play every level of ``worlds``; an error is a call that works but does
not help (two in three), or any valid call. The truth about a call is what it changes in the exact progress: needed records
read and changes made, less harm done. Answers are left out: the verdict pays for them. Measured over all calls: AUC (the
chance that a call that contributed scores higher than one that did not; ties count half) and Spearman's rank correlation,
each with a 95 % bootstrap interval over episodes; and the AUC over the calls without an error, which is the harder question.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from steptool_env import StepToolEnv, Transition, make_suite
from steptool_env.monte_carlo import MonteCarlo
from steptool_env.rewards import PaperRules, used_later
from steptool_env.rewards.paper_rules import is_answer
from steptool_env.scripted import HACKS, oracle, random_caller

RESULTS = Path(__file__).parent / "results" / "contribution.md"
NOISE = (0.1, 0.25, 0.5, 0.75)
ROLLOUTS = (1, 2, 4, 8, 16, 32)
LEVELS = (1, 2, 3, 4, 5)

Floats = NDArray[np.float64]
Episode = Sequence[Transition]
Signal = Callable[[Sequence[Episode]], list[Sequence[float]]]


def play(level: int, episodes: int, seed: int) -> list[Episode]:
    """Let oracles that err play tasks of a level, in turn."""
    env, found = StepToolEnv("worlds", "final", level=level, split="test"), []
    for number in range(episodes):
        env.reset(options={"task": number * len(env.suite) // episodes})
        rng = np.random.default_rng([seed, zlib.crc32(env.task.id.encode())])
        noise, ended = NOISE[number % len(NOISE)], False
        while not ended:
            policy = oracle if rng.random() >= noise else HACKS["spammer"] if rng.random() < 2 / 3 else random_caller
            _, _, terminated, truncated, _ = env.step(policy(env, rng))
            ended = terminated or truncated
        assert env.episode is not None
        found.append(list(env.episode))
    return found


def signals(endpoint: str | None, model: str, cache: str | None) -> dict[str, Callable[[int], Signal]]:
    """Return name -> (level -> scores of every step of every episode)."""
    found: dict[str, Callable[[int], Signal]] = {
        "call succeeded": lambda level: lambda episodes: [[float(not one.result.error) for one in episode] for episode in episodes],
        "paper-rules": lambda level: lambda episodes: [PaperRules().contributions(episode) for episode in episodes],
        "hindsight": lambda level: lambda episodes: [[float(used) for used in used_later(episode)] for episode in episodes],
        "hindsight, through": lambda level: lambda episodes: [[float(used) for used in used_later(episode, through=True)] for episode in episodes],
    }

    def simulated(rollouts: int) -> Callable[[int], Signal]:
        def of_level(level: int) -> Signal:
            shaper = MonteCarlo(rollouts, suite=make_suite("worlds", level=level, split="test"))
            return lambda episodes: [shaper.contributions(episode) for episode in episodes]

        return of_level

    for rollouts in ROLLOUTS:
        found[f"monte-carlo, {rollouts}"] = simulated(rollouts)
    if endpoint is not None:
        from steptool_agents import PaperJudge

        judge = PaperJudge(endpoint, model, cache=cache)

        def judged(episodes: Sequence[Episode]) -> list[Sequence[float]]:
            scores: list[Sequence[float]] = []
            for episode, said in zip(episodes, judge.judge(episodes), strict=True):
                means = iter(np.mean([one.contributions for one in said], axis=0) if said else [np.nan] * len(episode))
                scores.append([0.0 if is_answer(one) else float(next(means)) for one in episode])
            return scores

        found["judge"] = lambda level: judged
    return found


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return P(score of a positive > score of a negative) + ½ P(equal), the Mann-Whitney statistic; NaN without both kinds.

    Args:
        scores: (N,)
        positive: (N,)
    """
    p = int(positive.sum())
    n = len(positive) - p
    return float((ranks(scores)[positive].sum() - p * (p + 1) / 2) / (p * n)) if p and n else float("nan")


def spearman(one: Floats, other: Floats) -> float:
    """Return Spearman's ρ, the correlation of the ranks, ties averaged; NaN if either (N,) is constant."""
    a, b = ranks(one), ranks(other)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else float("nan")


def ranks(values: Floats) -> Floats:
    """Return the ranks from 1, ties averaged: (N,) -> (N,)."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return ((2 * last - count + 1) / 2)[place]


def measure(scores: list[Floats], truth: list[Floats], resamples: int = 500) -> dict[str, Any]:
    """Return AUC and ρ over all calls of some episodes, with 95 % percentile intervals from resampled episodes.

    Episodes whose score is missing (NaN) are left out and counted.
    """
    there = [k for k, one in enumerate(scores) if not np.isnan(one).any()]
    if not there:
        return {"episodes": 0, "missing": len(scores)}

    def both(chosen: Sequence[int]) -> tuple[float, float]:
        score, gain = (np.concatenate([part[k] for k in chosen]) for part in (scores, truth))
        return auc(score, gain > 0), spearman(score, gain)

    rng = np.random.default_rng(0)
    draws = np.array([both(rng.choice(there, len(there)).tolist()) for _ in range(resamples)])
    # Undefined is a correlation with a constant, such as a rule that never fires: NaN, without a warning.
    low, high = (np.array([np.nanquantile(column, q) if not np.isnan(column).all() else np.nan for column in draws.T]) for q in (0.025, 0.975))
    area, rho = both(there)
    found = {"auc": area, "auc_low": low[0], "auc_high": high[0], "spearman": rho, "spearman_low": low[1], "spearman_high": high[1]}
    return {"episodes": len(there), "missing": len(scores) - len(there), **{name: round(float(value), 4) for name, value in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=60, help="episodes per level (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--endpoint", help="an OpenAI-compatible endpoint; adds the judge")
    parser.add_argument("--judge-model", default="", help="the judge's model")
    parser.add_argument("--cache", help="folder for judgments")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes; the plot lies beside it")
    arguments = parser.parse_args()
    if arguments.episodes < 2:
        parser.error("--episodes must be at least 2")
    console = Console(stderr=True)
    rows, calls = [], 0
    with console.status("") as status:
        played = {level: play(level, arguments.episodes, arguments.seed) for level in LEVELS}
        keep = {level: [np.array([not is_answer(one) for one in episode]) for episode in played[level]] for level in LEVELS}
        truth = {
            level: [np.array([one.progress - one.progress_before for one in episode])[mask] for episode, mask in zip(played[level], keep[level], strict=True)]
            for level in LEVELS
        }
        works = {
            level: [np.array([not one.result.error for one in episode])[mask] for episode, mask in zip(played[level], keep[level], strict=True)]
            for level in LEVELS
        }
        calls = sum(len(one) for level in LEVELS for one in truth[level])
        positive = sum(int((one > 0).sum()) for level in LEVELS for one in truth[level])
        working = sum(int(one.sum()) for level in LEVELS for one in works[level])
        for name, of_level in signals(arguments.endpoint, arguments.judge_model, arguments.cache).items():
            scores: dict[int, list[Floats]] = {}
            seconds = 0.0
            for level in LEVELS:
                status.update(f"{name}: level {level}")
                signal = of_level(level)
                started = time.perf_counter()
                raw = signal(played[level])
                seconds += time.perf_counter() - started
                scores[level] = [np.asarray(one, dtype=np.float64)[mask] for one, mask in zip(raw, keep[level], strict=True)]
            everything, gains, fine = (list(itertools.chain(*one.values())) for one in (scores, truth, works))
            row = {"signal": name, **measure(everything, gains), "ms_per_call": round(1000 * seconds / calls, 3)}
            without = ([one[mask] for one, mask in zip(part, fine, strict=True)] for part in (everything, gains))
            row["auc_of_working"] = measure(*without, resamples=1).get("auc")
            row["auc_by_level"] = {level: measure(scores[level], truth[level], resamples=1).get("auc") for level in LEVELS}
            rows.append(row)
    result = {"benchmark": "contribution", "episodes": arguments.episodes * len(LEVELS), "calls": calls, "working": working, "contributing": positive}
    result["results"] = rows
    if arguments.json:
        print(json.dumps(result))
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(result, arguments.out.with_suffix(".png").name)
    arguments.out.write_text(text, encoding="utf-8")
    plot(rows, arguments.out.with_suffix(".png"))
    print(text)


def markdown(result: dict[str, Any], picture: str) -> str:
    """Return the table with the command that made it."""
    lines = [
        "# How good is a contribution signal?",
        "",
        f"Made by `{shlex.join(['python', 'benchmarks/contribution.py', *sys.argv[1:]])}`: {result['episodes']} episodes of oracles that err, on `worlds`,",
        f"levels 1 to 5: {result['calls']} calls before answers, {result['working']} without an error, {result['contributing']} that contributed.",
        "Truth: the change of the exact progress. `through`: only what leads to the answer counts. Simulating policy of",
        "`monte-carlo`: the oracle with three random calls in ten.",
        "Brackets: 95 % bootstrap intervals over episodes. A signal that knows nothing has an AUC of .5 and a correlation of 0.",
        "",
        "| signal | AUC | Spearman's ρ | AUC without errors | " + " | ".join(f"AUC, level {level}" for level in LEVELS) + " | ms per call |",
        "|---|---:|---:|---:|" + "---:|" * (len(LEVELS) + 1),
    ]
    for row in result["results"]:
        if not row["episodes"]:
            lines.append(f"| {row['signal']} | all {row['missing']} missing |" + " |" * (len(LEVELS) + 3))
            continue
        name = row["signal"] + (f" ({row['missing']} episodes missing)" if row["missing"] else "")
        ends = [(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in ("auc", "spearman")]
        means = ["undefined" if np.isnan(mean) else f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in ends]
        levels = [f"{row['auc_by_level'][level]:.3f}" for level in LEVELS]
        lines.append("| " + " | ".join([name, *means, f"{row['auc_of_working']:.3f}", *levels, f"{row['ms_per_call']:.3g}"]) + " |")
    return "\n".join([*lines, "", f"![AUC and rank correlation by number of rollouts]({picture})", ""])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw AUC and ρ: simulation over its number of rollouts, the others as levels."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    simulated = [row for row in rows if row["signal"].startswith("monte-carlo")]
    for axis, key, title in zip(axes, ("auc", "spearman"), ("AUC", "Spearman's ρ"), strict=True):
        middle, low, high = ([row[f"{key}{end}"] for row in simulated] for end in ("", "_low", "_high"))
        axis.plot(ROLLOUTS, middle, "o-", color="C0", label="monte-carlo")
        axis.fill_between(ROLLOUTS, low, high, color="C0", alpha=0.2)
        for number, row in enumerate((row for row in rows if row not in simulated and row["episodes"]), 1):
            axis.axhline(row[key], color=f"C{number}", linestyle="--", label=row["signal"])
            axis.axhspan(row[f"{key}_low"], row[f"{key}_high"], color=f"C{number}", alpha=0.1)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ROLLOUTS, [str(n) for n in ROLLOUTS])
        axis.set_xlabel("rollouts per state")
        axis.set_title(f"{title} against the exact contribution")
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
