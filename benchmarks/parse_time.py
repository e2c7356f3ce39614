"""Is reading a reply linear in its length? Times every call format on texts that were made to be slow.

    python benchmarks/parse_time.py                # writes benchmarks/results/parse_time.md
    python benchmarks/parse_time.py --longest 3200000 --json

Each kind of text is read at four lengths, each twice the one before; processor time, the fastest of three. The exponent
is the slope of log(time) over log(length), by least squares: 1 is linear, 2 quadratic. Texts that are read in less than a
millisecond at the greatest length have none: there is nothing to measure.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env import FORMATS, make_format, read
from steptool_env.adversarial import ADVERSARIAL

RESULTS = Path(__file__).parent / "results" / "parse_time.md"


def seconds(form: Any, text: str) -> float:
    """Return the processor time that reading a text takes."""
    times = []
    for _ in range(3):
        start = time.process_time()
        read(form, text)
        times.append(time.process_time() - start)
    return min(times)


def measure(name: str, kind: str, longest: int) -> dict[str, Any]:
    """Return the times of one kind of text at four lengths, and their exponent."""
    form = make_format(name)
    texts = [ADVERSARIAL[kind](longest >> shift) for shift in (3, 2, 1, 0)]
    times = [seconds(form, text) for text in texts]
    exponent = None
    if times[-1] >= 1e-3:
        exponent = float(np.polyfit([math.log(len(text)) for text in texts], [math.log(max(one, 1e-9)) for one in times], 1)[0])
    return {"format": name, "text": kind, "lengths": [len(text) for text in texts], "ms": [round(1e3 * one, 3) for one in times], "exponent": exponent}


def page(rows: list[dict[str, Any]], longest: int) -> str:
    """Return the table as Markdown: for each format the text with the greatest exponent, and the slowest one."""
    lines = [
        "# Time of reading a reply",
        "",
        f"Made by `{shlex.join(['python', 'benchmarks/parse_time.py', *sys.argv[1:]])}` on one core.",
        f"{len(ADVERSARIAL)} kinds of hostile texts for each format, at lengths up to {longest:,} characters. Exponent: 1 is linear, 2 quadratic.",
        "",
        "| format | measurable kinds | greatest exponent | of the kind | its ms at each length | slowest kind | ms at the greatest length |",
        "|---|---:|---:|---|---|---|---:|",
    ]
    for name in FORMATS:
        own = [row for row in rows if row["format"] == name]
        measured = [row for row in own if row["exponent"] is not None]
        steepest, slowest = max(measured, key=lambda row: row["exponent"], default=None), max(own, key=lambda row: row["ms"][-1])
        steep = "- | - | -" if steepest is None else f"{steepest['exponent']:.2f} | {steepest['text']} | {', '.join(f'{one:.1f}' for one in steepest['ms'])}"
        lines.append(f"| {name} | {len(measured)} | {steep} | {slowest['text']} | {slowest['ms'][-1]:.1f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=1_600_000, help="greatest length in characters (default: 1,600,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes")
    arguments = parser.parse_args()
    rows = [measure(name, kind, arguments.longest) for name in FORMATS for kind in ADVERSARIAL]
    if arguments.json:
        print(json.dumps({"benchmark": "parse_time", "results": rows}))
        return
    text = page(rows, arguments.longest)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
