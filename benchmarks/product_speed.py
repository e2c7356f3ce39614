"""How fast and how exact are matrix products in float32: those of ``models/products.py`` beside PyTorch's own.

    python benchmarks/product_speed.py                # writes benchmarks/results/product_speed.md

One thread; both in turn (A-B-A-B), medians. Shapes are those of layers of ``tiny`` (128, 640) and of SmolLM2-135M (576, 1536). Forward is x·Wᵀ + b,
the other two are the gradients of x and of W. Errors are of the norm, against float64.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "product_speed.md"
SHAPES = ((128, 128, 384), (2048, 128, 640), (2048, 640, 128), (700, 576, 1536), (700, 576, 8))
"""Rows, numbers of a row, columns of the result."""
SECONDS = 0.2


def rate(call: Callable[[], object], operations: float) -> float:
    """Return GFLOP/s of calls for some time."""
    started, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < SECONDS:
        call()
        count += 1
    return operations * count / spent / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    import torch
    import torch.nn.functional as F

    from steptool_agents.models.products import product

    torch.set_num_threads(1)
    lines = ["# Matrix products in float32", "", f"`{shlex.join(['python', 'benchmarks/product_speed.py', *sys.argv[1:]])}`, one thread,"]
    lines += [f"{torch.backends.cpu.get_cpu_capability()}; GFLOP/s, medians of {options.repeats}.", ""]
    lines += ["| rows × numbers × columns | | PyTorch's own | here | times as fast | error: own | here |", "|---|---|---:|---:|---:|---:|---:|"]
    for rows, inner, columns in SHAPES:
        x, weight, gradient = torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(rows, columns)
        for name, left, right in (("forward", x, weight), ("of x", gradient, weight.t()), ("of W", gradient.t(), x.t())):
            ways: tuple[Callable[[], torch.Tensor], ...] = (lambda a=left, b=right: F.linear(a, b), lambda a=left, b=right: product(a, b))  # type: ignore[misc]
            rates = [[rate(way, 2.0 * rows * inner * columns) for way in ways] for _ in range(options.repeats)]
            exact = left.double() @ right.double().t()
            errors = [float((way().double() - exact).norm() / exact.norm()) for way in ways]
            own, here = (statistics.median(one) for one in zip(*rates, strict=True))
            ratio = statistics.median(b / a for a, b in rates)
            shape = f"{rows} × {inner} × {columns}"
            lines.append(f"| {shape} | {name} | {own:.0f} | {here:.0f} | **{ratio:.2f}** | {errors[0]:.1e} | {errors[1]:.1e} |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
