"""What each defect of the released credit costs, for docs/credit.md. Pure arithmetic: it takes a second.

    python benchmarks/credit_defects.py                       # prints the numbers
    python benchmarks/credit_defects.py --released FOLDER     # also writes benchmarks/results/credit_defects.md and docs/credit.png

FOLDER holds the example files of the paper's release (``step_grained_*.csv``), whose rewards are added up.

An episode of four calls of 20 tokens each, with tool results of 0 to 300 tokens between them. Shown for ``step`` and for ``reference``
at γ = .99, λ = .95 (the released ones): the weight with which the verdict reaches each call, what a call's own reward is multiplied
with, how much of the next step's worth crosses a tool result, and the advantage that a call gets although nothing happened.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from steptool_agents import read_step_csv
from steptool_agents.credit import CREDIT, Episodes
from steptool_agents.credit.episodes import Floats

RESULTS = Path(__file__).parent / "results" / "credit_defects.md"
PICTURE = Path(__file__).parents[1] / "docs" / "credit.png"
CALLS, TOKENS = 4, 20
GAMMA, LAM = 0.99, 0.95


def last_tokens(scheme: str, rewards: list[float], values: list[float], gap: int) -> Floats:
    """(T,) the advantage at the last token of each call."""
    episodes = Episodes.of([rewards], values=[values], tokens=[[TOKENS] * CALLS], gaps=[[gap] * CALLS])
    found = CREDIT[scheme](episodes, GAMMA, LAM)[0]
    return found if found.ndim == 1 else found[:, -1]


def released_rows(folder: Path) -> list[str]:
    """Return the table of the released rows: what was annotated, what of it the last steps lose, what the code pays instead."""
    lines = ["| file | rows | points of reward | of these at last steps | points that are paid |", "|---|---:|---:|---:|---:|"]
    sums = np.zeros(3)
    rows = 0
    for file in sorted(folder.glob("step_grained_*.csv")):
        rewards = [trajectory.rewards for trajectory in read_step_csv(file)]
        own = [sum(map(np.sum, rewards)), sum(one[-1] for one in rewards), sum(one @ np.arange(len(one))[::-1] for one in rewards)]
        sums += own
        rows += len(rewards)
        lines.append(f"| {file.stem} | {len(rewards)} | " + " | ".join(f"{number:.2f}" for number in own) + " |")
    return [*lines, f"| all | {rows} | " + " | ".join(f"{number:.2f}" for number in sums) + " |"]


def main() -> None:
    import matplotlib

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the figure goes (default: docs/credit.png)")
    parser.add_argument("--released", type=Path, help="the folder with the released example files")
    options = parser.parse_args()

    matplotlib.use("Agg")
    from matplotlib import pyplot

    zeros, schemes = [0.0] * CALLS, ("step", "reference")
    colors = {"step": "#1f77b4", "reference": "#d62728"}
    verdict = {name: last_tokens(name, [0, 0, 0, 1.0], zeros, 100) for name in schemes}
    own = {name: np.array([last_tokens(name, list(np.eye(CALLS)[t]), zeros, 100)[t] for t in range(CALLS)]) for name in schemes}
    gaps = [0, 1, 10, 20, 50, 100, 200, 300]
    crosses = {name: [last_tokens(name, [0, 1.0, 0, 0], zeros, gap)[0] / last_tokens(name, [0, 1.0, 0, 0], zeros, gap)[1] for gap in gaps] for name in schemes}
    nothing = {name: last_tokens(name, zeros, [0.7] * CALLS, 100) for name in schemes}
    lines = ["| what | scheme | |", "|---|---|---|"]
    shares = {name: [100 * share for share in crosses[name]] for name in schemes}
    whats = {
        "weight of the verdict at each call": verdict,
        "weight of a call's own reward": own,
        f"of the next step's worth, a call sees across {', '.join(map(str, gaps))} tokens, in %": shares,
        "advantage of a call in a state of V = 0.7 when nothing happened": nothing,
        "the same with one-step errors (λ = 0)": {"step": [GAMMA * 0.7 - 0.7]},
    }
    for what, numbers in whats.items():
        lines += [f"| {what} | `{name}` | {', '.join(_short(number) for number in row)} |" for name, row in numbers.items()]
    print("\n".join(lines))
    if options.released is None:
        return
    head = f"""# What each defect of the released credit costs

Made by `python benchmarks/credit_defects.py --released FOLDER`: an episode of {CALLS} calls of {TOKENS} tokens, with tool results of 100 tokens between
them where nothing else is said, at γ = {GAMMA} and λ = {LAM}. Nothing is trained, this is arithmetic.
"""
    rows = released_rows(options.released)
    tail = "The released example rows: a reward of step t is paid T - t - 1 times, so that of the last step never is."
    RESULTS.write_text("\n".join([head, *lines, "", tail, "", *rows]) + "\n", encoding="utf-8")
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.4), constrained_layout=True)
    titles = ("weight of the verdict", "weight of a call's own reward", "advantage of a call, V = 0.7,\nnothing happened")
    for axis, title, numbers in zip(axes[[0, 1, 3]], titles, (verdict, own, nothing), strict=True):
        for shift, name in zip((-0.2, 0.2), schemes, strict=True):
            axis.bar(np.arange(CALLS) + 1 + shift, numbers[name], 0.38, label=name, color=colors[name])
        axis.set(title=title, xlabel="call", xticks=range(1, CALLS + 1))
        axis.axhline(0, color="black", linewidth=0.6)
    for name in schemes:
        axes[2].semilogy(gaps, np.maximum(crosses[name], 1e-12), marker="o", label=name, color=colors[name])
    axes[2].set(title="what crosses a tool result", xlabel="tokens of the tool result")
    axes[0].legend(fontsize=8)
    figure.savefig(options.out, dpi=110)
    print(f"Saved {RESULTS.name}, {options.out.name}")


def _short(number: float) -> str:
    """Three significant digits, never in powers of ten."""
    return np.format_float_positional(number, precision=3, fractional=False, trim="-")


if __name__ == "__main__":
    main()
