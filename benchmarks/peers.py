"""An update of GRPO by this package, beside one of TRL's GRPOTrainer on the same tasks: time and memory, generation and learning apart.

    python benchmarks/peers.py                     # SmolLM2-135M, LoRA rank 8; writes benchmarks/results/peers.md
    python benchmarks/peers.py --quick             # one update of each side; writes no page
    python benchmarks/peers.py --model tiny        # shows that all works; writes no page
    python benchmarks/peers.py --give-back         # memory as it is needed, and times that do not count

Both begin with one model: SmolLM2 after a few demonstrations, with the chat template of Qwen 2.5 that TRL ships, in which both sides show tools and
read calls. An update plays 16 episodes of up to 4 turns, 8 of each of 2 tasks, and takes one optimizer step on all of them. Each side is a process of its
own, and TRL an environment of its own, which is made once. The processes take turns (A-B-A-B), an update each, and one waits while the other works. The
first update counts, too, with what is done only once. Times are by the clock. A peak is that of the process, above what it held with the model loaded.
Of what a process has freed, the C library keeps a part; it gives it back before each phase, and with ``--give-back`` at once, which takes time.

``trl`` is TRL with its own defaults: it computes activations again in the backward pass (gradient_checkpointing). ``trl-kept`` keeps them, as this package
does by default; ``ours-again`` computes them again.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from peer_parts.plan import Plan
from serving_parts.vllm_process import end_with_parent

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "peers.md"
TRL = "trl==1.16.0"
SIDES = {
    "ours": "this package",
    "ours-again": "this package, `gradient_checkpointing=true`",
    "trl": "TRL, as it comes",
    "trl-kept": "TRL, `gradient_checkpointing=False`",
}
PHASES = ("generate", "learn")
Figures = Mapping[str, Any]
"""What a side tells of an update."""


# ---------------------------------------------------------------- a process of a side
def play(side: str, plan: Plan, folder: Path) -> None:
    """Do an update for every line that comes in, and tell its figures in a line."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes elsewhere

    def tell(figures: Figures) -> None:
        print(json.dumps(figures), file=told, flush=True)

    def wait() -> None:
        if not sys.stdin.readline():
            sys.exit(0)

    recompute = side in ("trl", "ours-again")
    if side.startswith("trl"):
        from peer_parts.trl_grpo import run

        run(plan, folder, recompute=recompute, wait=wait, tell=tell)
        return
    from peer_parts.ours import updates

    for figures in updates(plan, folder, recompute=recompute):
        tell(figures)
        wait()


class Player:
    """The process of a side; a context manager.

    Args:
        side: Its name.
        python: The interpreter.
        plan: What it does.
        folder: The model's.
        out: Where its log and links to the packages go.
        settings: Of its environment.
    """

    def __init__(self, side: str, python: Path, plan: Plan, folder: Path, out: Path, settings: Mapping[str, str] | None = None) -> None:
        self.log = out / f"{side}.log"
        command = [str(python), __file__, "--side", side, "--plan", plan.to_json(), "--folder", str(folder)]
        own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        own |= {"OMP_NUM_THREADS": str(plan.threads), "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        own |= {"PYTHONPATH": str(packages(out)), **(settings or {})}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, env=own, stderr=log, preexec_fn=end_with_parent, **pipes)

    def update(self, *, go: bool = True) -> dict[str, Any]:
        """Return the figures of an update; without ``go``, those that are told when the model is loaded."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if go:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"it ended, see {self.log}: {self.log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        figures: dict[str, Any] = json.loads(line)
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


def packages(out: Path) -> Path:
    """Return a folder with links to the packages of this checkout, under the names by which they are imported: environments of peers do not hold them."""
    folder = out / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in (("steptool_env", "steptool_env"), ("steptool_agents", "agents")):
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(ROOT / place)
    return folder


def trl_python(say: Callable[[str], None]) -> Path:
    """Return the interpreter of TRL's environment: TRL, and what this package needs for its tasks and models."""
    from serving_parts.environments import environment

    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg", encoding="utf-8")
    needs = f"{metadata['options']['install_requires']}\n{metadata['options.extras_require']['agents']}".split()
    install = ["install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), TRL, *needs]
    return environment(TRL.replace("==", "-"), [install], "some minutes, 1.5 GB", say)


# ---------------------------------------------------------------- the model that both begin with
def warm_start(out: Path, python: Path, plan: Plan, demos: int) -> None:
    """Make the model that both begin with, if it is not there."""
    import torch
    from serving_parts.stored import once
    from transformers import AutoTokenizer

    from steptool_agents import Config, export_run, load_algorithm
    from steptool_agents.config import presets
    from steptool_agents.models.packaged import converted
    from steptool_env.files import replacing_folder

    torch.set_num_threads(plan.threads)
    base, run = out / "base", out / f"sft-{demos}"
    if not base.is_dir():
        where = subprocess.run([str(python), "-c", "import importlib.util as u; print(u.find_spec('trl').origin)"], check=True, capture_output=True, text=True)
        source = converted("smollm2")
        tokenizer = AutoTokenizer.from_pretrained(source)
        tokenizer.chat_template = (Path(where.stdout.strip()).parent / "chat_templates" / "qwen2_5.jinja").read_text(encoding="utf-8")
        with replacing_folder(base) as temporary:
            for file in source.iterdir():
                if "token" not in file.name and "template" not in file.name:
                    (temporary / file.name).symlink_to(file)
            tokenizer.save_pretrained(temporary)

    def fit() -> dict[str, Any]:
        settings = {**presets.preset("smollm2", "worlds"), "algo": "sft", "demos": demos, "demo_lr": 1e-3, "eval_episodes": 1, "eval_width": 1}
        settings |= {"suite_options": plan.suite, "demo_options": {}, "max_steps": plan.max_steps, "bfloat16": False, "report_to": "none"}
        load_algorithm("sft")(Config.of(**settings, **{"model.name": str(base)}), run, resume=(run / "config.json").is_file())
        export_run(run, begin_with(out, demos), force=True)
        return {"demos": demos}

    once(out / f"model-{demos}.json", fit)


def begin_with(out: Path, demos: int) -> Path:
    """Return the folder of the model that both begin with."""
    return out / f"model-{demos}"


# ---------------------------------------------------------------- in turn
def compare(players: Mapping[str, Player], updates: int, say: Callable[[str], None], most: float = float("inf")) -> dict[str, list[dict[str, Any]]]:
    """Return the figures of all updates of each side, which take turns; no turn but the first begins that would end after ``most`` seconds."""
    loaded = {side: player.update(go=False)["loaded_mb"] for side, player in players.items()}
    say("loaded: " + ", ".join(f"{side} {mb:,.0f} MB" for side, mb in loaded.items()))
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in players}
    longest, started = 0.0, time.perf_counter()
    for number in range(updates):
        begun = time.perf_counter()
        if number and begun - started + longest > most:
            break
        for side, player in players.items():
            found[side].append({**player.update(), "loaded_mb": loaded[side]})
            say(f"update {number}, {side}: {json.dumps(found[side][-1])}")
        longest = max(longest, time.perf_counter() - begun)
    return found


def summary(counted: Sequence[Figures]) -> dict[str, float]:
    """Return the medians over the updates of a side, and the largest peaks; times and peaks of both phases together, too."""
    found: dict[str, float] = {}
    for phase in PHASES:
        found |= {f"{phase}_{name}": statistics.median(one["phases"][phase][name] for one in counted) for name in ("seconds", "processor", "tokens")}
        found[f"{phase}_mb"] = max(one["phases"][phase]["peak_mb"] for one in counted)
    for name in ("seconds", "processor"):
        found[name] = statistics.median(sum(one["phases"][phase][name] for phase in PHASES) for one in counted)
    found["mb"] = max(found[f"{phase}_mb"] for phase in PHASES)
    for name in ("tokens", "written", "turns", "solved", "reward", "loaded_mb"):
        found[name] = statistics.median(one[name] for one in counted)
    whole = [(sum(one["phases"][phase]["seconds"] for phase in PHASES), one["tokens"], one["written"]) for one in counted]
    found["per_token"] = statistics.median(1000 * seconds / tokens for seconds, tokens, _ in whole)
    found["per_written"] = statistics.median(1000 * seconds / written for seconds, _, written in whole)
    return found


def page(found: Mapping[str, Sequence[Figures]], plan: Plan, command: str, model: str, place: str) -> str:
    """Return the page."""
    sums = {side: summary(updates) for side, updates in found.items()}
    lines = ["# An update of GRPO, beside TRL", "", f"`{command}`", ""]
    lines += [f"{model}, LoRA rank {plan.rank}, {plan.dtype}, {plan.groups * plan.group} episodes of up to {plan.max_steps} turns ({plan.group} of each"]
    lines[-1] += f" of {plan.groups} tasks of `worlds`), one optimizer step; {TRL.replace('==', ' ')}; {place}."
    count = len(next(iter(found.values())))
    shown = "One update" if count == 1 else f"Medians of {count} updates"
    lines += [f"{shown} each, in turn; a peak is the largest, above what the process held with the model loaded.", ""]
    lines += ["| | update, s | generation, s | learning, s | processor, s | peak, MB | generation, MB | learning, MB | model, MB |"]
    lines += ["|---|" + "---:|" * 8]
    for side, one in sums.items():
        cells = [one[name] for name in ("seconds", "generate_seconds", "learn_seconds", "processor")]
        peaks = [one[name] for name in ("mb", "generate_mb", "learn_mb", "loaded_mb")]
        lines.append(f"| {SIDES[side]} | " + " | ".join([*(f"{cell:.1f}" for cell in cells), *(f"{cell:,.0f}" for cell in peaks)]) + " |")
    lines += ["", "What the ratios are:", ""]
    lines += ["| | times as fast | generation | learning | per 1,000 tokens of episodes | per 1,000 written | share of the peak |", "|---|" + "---:|" * 6]
    for ours in (side for side in sums if side.startswith("ours")):
        for peer in (side for side in sums if side.startswith("trl")):
            names = ("seconds", "generate_seconds", "learn_seconds", "per_token", "per_written")
            ratios = [f"{ratio(found[ours], found[peer], name):.2f}" for name in names]
            share = sums[ours]["mb"] / sums[peer]["mb"]
            lines.append(f"| {SIDES[ours]}, beside {SIDES[peer]} | **{ratios[0]}** | " + " | ".join(ratios[1:]) + f" | **{share:.2f}** |")
    lines += ["", "Episodes differ, as each side samples its own:", ""]
    lines += ["| | tokens of episodes | written | turns | solved | reward | read to generate | read to learn | s per 1,000 tokens | per 1,000 written |"]
    lines += ["|---|" + "---:|" * 9]
    for side, one in sums.items():
        counts = [f"{one[name]:,.0f}" for name in ("tokens", "written", "turns", "solved")]
        read = [f"{one[name]:,.0f}" for name in ("generate_tokens", "learn_tokens")]
        pace = [f"{one['per_token']:.2f}", f"{one['per_written']:.1f}"]
        lines.append(f"| {SIDES[side]} | " + " | ".join([*counts, f"{one['reward']:.2f}", *read, *pace]) + " |")
    if model == "tiny":
        lines += ["", "A trial of the script with a model of 1 M parameters: it says little about larger ones."]
    lines += ["", *DIFFERENCES]
    return "\n".join(lines) + "\n"


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures], name: str) -> float:
    """Return how many times as much of something the other side takes: the median over the turns, each of which has one update of each side."""
    return statistics.median(summary([b])[name] / summary([a])[name] for a, b in zip(ours, theirs, strict=True))


DIFFERENCES = [
    "Read are the tokens that go through the model's layers, padding included. To generate, TRL pads all episodes to one length, reads every",
    "transcript again at each turn, and waits for the longest answer; this package keeps keys and values from turn to turn. To learn, TRL reads",
    "4 rows a pass, padded to the longest episode of the update; this package reads what episodes share once, in passes of at most 4,096 tokens.",
    "",
    "The same on both sides: weights, adapters (all linear layers, α = 16), tasks and their rewards, the most tokens of a turn, temperature 1,",
    "the clipped objective, summed over action tokens and divided by their number, advantages standardized within a group, no KL term, AdamW at 1e-5.",
    "",
    "Not the same: an answer without a call ends TRL's episode, and is a step that fails here; TRL orders tools by name; the loss here compares with",
    "the probabilities that were recorded while sampling, TRL's with those of its own pass; sampling draws from other generators.",
    "Both end a turn behind its call; TRL counts the end token that fills up shorter answers as written, too.",
]


def machine(threads: int) -> str:
    """Return the machine in words."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{threads} threads on {os.cpu_count()} cores ({names[0] if names else platform.machine()})"


def sides(text: str) -> Iterator[str]:
    """Yield names of sides, separated by commas."""
    for name in text.split(","):
        if name not in SIDES:
            raise argparse.ArgumentTypeError(f"{name!r} is no side; there are {', '.join(SIDES)}")
        yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["smollm2", "tiny"], default="smollm2")
    parser.add_argument("--sides", type=lambda text: list(sides(text)), default=[*SIDES][:3], help=f"of {','.join(SIDES)} (default: all but the last)")
    parser.add_argument("--repeats", type=int, default=3, help="updates of each side (default: 3)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no update begins that would end after so many (default: no limit)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the passes; weights are in float32")
    parser.add_argument("--demos", type=int, default=48, help="of the warm start (default: 48)")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"), help="folder of the warm start, which is made once, and of logs (default: runs/peers)")
    parser.add_argument("--give-back", action="store_true", help="freed memory goes back to the system at once")
    parser.add_argument("--machine", help="in words (default: what it says of itself)")
    parser.add_argument("--results", type=Path, help="where the page goes (default: of a whole run of smollm2 benchmarks/results, of others nowhere)")
    parser.add_argument("--quick", action="store_true", help="one update of each side; writes no page")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # what this process is: one of SIDES, or warm-start
    parser.add_argument("--plan", type=Plan.from_json, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if options.side == "warm-start":
        warm_start(options.folder, trl_python(say), options.plan, options.demos)
        return
    if options.side:
        play(options.side, options.plan, options.folder)
        return
    from steptool_agents.config.presets import CHAINS, PRETRAINED_CHAINS
    from steptool_agents.models.loading import TINY

    tiny, out = options.model == "tiny", options.out.resolve()
    suite, written = ({**CHAINS, "depth": [2, 3]}, 24) if tiny else ({**PRETRAINED_CHAINS, "depth": [1, 3]}, 64)
    plan = Plan(suite, 1 if options.quick else options.repeats, new_tokens=written, dtype=options.dtype, threads=options.threads)
    out.mkdir(parents=True, exist_ok=True)
    python = trl_python(say)
    folder = TINY if tiny else begin_with(out, options.demos)
    if not tiny:  # in a process of its own, which gives its memory back
        given = ["--plan", plan.to_json(), "--folder", str(out), "--demos", str(options.demos)]
        subprocess.run([sys.executable, __file__, "--side", "warm-start", *given], check=True)
    with contextlib.ExitStack() as stack:
        interpreters = {side: python if side.startswith("trl") else Path(sys.executable) for side in options.sides}
        settings = {"MALLOC_MMAP_THRESHOLD_": str(2**18)} if options.give_back else {}
        players = {side: stack.enter_context(Player(side, its, plan, folder, out, settings)) for side, its in interpreters.items()}
        found = compare(players, plan.updates, say, 60 * options.minutes)
    words = "tiny" if tiny else "SmolLM2-135M", options.machine or machine(plan.threads)
    text = page(found, plan, shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]]), *words)
    print(text)
    if results := options.results or (None if options.quick or options.give_back or tiny else RESULTS):
        results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
