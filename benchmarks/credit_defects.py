"""What each defect of the released credit costs, as one figure for docs/credit.md. Pure arithmetic: it takes a second.

    python benchmarks/credit_defects.py            # writes docs/credit.png and prints the numbers

An episode of four calls of 20 tokens each, with tool results of 0 to 300 tokens between them. Shown for ``step`` and for ``reference``
at γ = .99, λ = .95 (the released ones): the weight with which the verdict reaches each call, what a call's own reward is multiplied
with, how much of the next step's worth crosses a tool result, and the advantage that a call gets although nothing happened.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from steptool_agents.credit import CREDIT, Episodes
from steptool_agents.credit.episodes import Floats

PICTURE = Path(__file__).parents[1] / "docs" / "credit.png"
CALLS, TOKENS = 4, 20
GAMMA, LAM = 0.99, 0.95


def last_tokens(scheme: str, rewards: list[float], values: list[float], gap: int) -> Floats:
    """(T,) the advantage at the last token of each call."""
    episodes = Episodes.of([rewards], values=[values], tokens=[[TOKENS] * CALLS], gaps=[[gap] * CALLS])
    found = CREDIT[scheme](episodes, GAMMA, LAM)[0]
    return found if found.ndim == 1 else found[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE, help="where the figure goes (default: docs/credit.png)")
    given = parser.parse_args()

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    zeros, schemes = [0.0] * CALLS, ("step", "reference")
    colors = {"step": "#1f77b4", "reference": "#d62728"}
    verdict = {name: last_tokens(name, [0, 0, 0, 1.0], zeros, 100) for name in schemes}
    own = {name: np.array([last_tokens(name, list(np.eye(CALLS)[t]), zeros, 100)[t] for t in range(CALLS)]) for name in schemes}
    gaps = [0, 1, 10, 20, 50, 100, 200, 300]
    crosses = {name: [last_tokens(name, [0, 1.0, 0, 0], zeros, gap)[0] / last_tokens(name, [0, 1.0, 0, 0], zeros, gap)[1] for gap in gaps] for name in schemes}
    nothing = {name: last_tokens(name, zeros, [0.7] * CALLS, 100) for name in schemes}
    for what, numbers in (("verdict", verdict), ("own reward", own), (f"crosses {gaps} tokens", crosses), ("nothing happened", nothing)):
        for name in schemes:
            print(f"{what:40} {name:10}", " ".join(f"{number:.3g}" for number in numbers[name]))
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
    figure.savefig(given.out, dpi=110)
    print(f"Saved {given.out.name}")


if __name__ == "__main__":
    main()
