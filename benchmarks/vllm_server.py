"""A real vLLM plays, this package learns: ``step-ppo`` with SmolLM2, adapters and all weights, resumed once, a server killed once.

    python benchmarks/vllm_server.py                    # two servers and a learner on one core; writes benchmarks/results/vllm_server.md
    python benchmarks/vllm_server.py --ways adapters --updates 2 --episodes 4 --demos 8 --tasks 4   # a trial; writes no page
    python benchmarks/vllm_server.py --device cuda --url http://127.0.0.1:8000/v1 --folder /shared/weights   # servers that run; none is killed

Adapters begin with a warm start on demonstrations, all weights with an export of the same. Each way is an ordinary run whose ``servers`` are two
vLLMs (``serving_parts/vllm_process.py``). When it has made two updates, the learner is killed and resumed; after the third, while episodes are
played, one of the servers is killed and started again. After the run its weights are handed over once more: a server and this process play the same
tasks, and every greedy action of this process is asked again of the server, token for token.

With ``--url`` (endpoints, separated by commas) the servers must hold the model under the name of ``--model``, load adapters at run time
(``--enable-lora``, ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``), reload weights (``VLLM_SERVER_DEV_MODE=1``) and see ``--folder`` under the same path.
On a CPU, servers that reload all weights hold a copy of the model with an output projection of its own (``serving_parts/untied.py``).
What is done is kept in ``--out``; a second start goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from serving_parts.greedy import TIE, ask_server, gaps, questions, tally
from serving_parts.stored import once
from serving_parts.untied import untied
from serving_parts.vllm_process import VLLM, Server, environment

from steptool_agents import ChatClient, Config, HandOver, LanguageModel, ServedPolicy, evaluate, export_run, load_algorithm, load_model, read_metrics
from steptool_agents.config import preset
from steptool_agents.models.packaged import PACKAGED, converted
from steptool_agents.rollouts.evaluate import held_out, rollout_tasks
from steptool_agents.runs.folder import load_weights, trained_weights
from steptool_agents.runs.policies import evaluated_policy
from steptool_agents.runs.results import read_episodes
from steptool_env import make_suite

RESULTS = Path(__file__).parent / "results" / "vllm_server.md"
WAYS = {"adapters": 8, "all weights": 0}
"""Way -> rank of the adapters."""
EPISODES = {"adapters": 8, "all weights": 4}
"""Of an update: all weights take longer to learn."""
KILL_LEARNER, KILL_SERVER = 2, 3
"""After so many updates."""
COMPARED = 5
"""Held-out tasks that are played here and there."""
METRICS = "metrics.jsonl"
MISMATCH = ("importance", "importance_truncated", "sampling_kl", "approx_kl", "clip_fraction")

Say = Callable[[str], None]


def settings(way: str, model: str, servers: Path, folder: Path, given: argparse.Namespace) -> Config:
    """Return the settings of a way's run: the preset, with a short training on top.

    Args:
        way: Of ``WAYS``.
        model: A name, which gets a warm start; or the folder of a model that has had one.
        servers: The file that lists them.
        folder: Through which weights go.
        given: The options.
    """
    chosen = preset(given.model, "worlds", level=1)
    chosen |= {"demo_options": {}, "lora_rank": WAYS[way], "report_to": "none", "minibatches": 2, "kl": 0.0}
    # All weights learn at a lower rate than adapters, which begin at 0.
    chosen |= {"demo_lr": 1e-3, "lr": 3e-4} if WAYS[way] else {"demo_lr": 1e-4, "lr": 2e-5}
    chosen |= {"demos": given.demos if model == given.model else 0, "demo_epochs": 2, "updates": given.updates, "episodes": given.episodes or EPISODES[way]}
    chosen |= {"eval_episodes": given.tasks, "eval_width": given.tasks, "device": given.device, "max_steps": 4}
    chosen |= {"servers": str(servers), "server_model": given.model, "server_folder": str(folder)}
    return Config.of(**{"model.name": model, "suite": "worlds", **chosen})


# ---------------------------------------------------------------- the learner, a process that is killed
def learn(run: Path, chosen: Config) -> None:
    """Train, or go on with it; what is handed over is written down beside the run."""
    hand_over = HandOver.__call__

    def told(self: HandOver, lm: LanguageModel, update: int, lost: Any = ()) -> tuple[str, list[ChatClient]]:
        started = time.perf_counter()
        name, live = hand_over(self, lm, update, lost)
        line = {"update": update, "name": name, "files": {file.name: file.stat().st_size for file in sorted(self._path.iterdir()) if file.is_file()}}
        line |= {"servers": [server.endpoint for server in live], "seconds": time.perf_counter() - started}
        with (run.parent / "handovers.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return name, live

    HandOver.__call__ = told  # type: ignore[method-assign]
    load_algorithm("step-ppo")(chosen, run, resume=(run / "config.json").is_file())


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file of JSON lines; none if there is no file yet."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def learner_of(run: Path, chosen: Config, threads: int) -> list[str]:
    """Return the command of a process that learns, or goes on with it."""
    return [sys.executable, str(Path(__file__).absolute()), "--learn", str(run), "--threads", str(threads), "--settings", json.dumps(chosen.as_dict())]


def train(place: Path, command: Sequence[str], servers: Sequence[Server], threads: int, say: Say) -> dict[str, Any]:
    """Let a process learn, kill it once and a server once; what happened is written down in ``events.jsonl``."""
    run, handed, events = place / "run", place / "handovers.jsonl", place / "events.jsonl"

    def note(kind: str, event: str) -> None:
        with events.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "event": event}) + "\n")
        say(f"{place.name}: {event}")

    before = {line["kind"] for line in lines_of(events)}
    killed_learner, killed_server = "learner" in before, "server" in before
    if begun := lines_of(run / METRICS):
        note("script", f"This script was ended after {len(begun)} updates, and went on.")

    def start() -> subprocess.Popen[bytes]:
        with (place / "learner.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": str(threads)})

    learner, seen = start(), len(lines_of(run / METRICS))
    try:
        while learner.poll() is None:
            time.sleep(0.5)
            done = lines_of(run / METRICS)
            for line in done[seen:]:
                say(f"{place.name}, update {line['update']}: success {line['success']:.2f}, KL of server and learner {line.get('sampling_kl', math.nan):.1e}")
            seen = max(seen, len(done))
            playing = handed.is_file() and (not done or handed.stat().st_mtime > (run / METRICS).stat().st_mtime)  # weights are new since the last update
            if playing and not killed_learner and len(done) >= KILL_LEARNER:
                killed_learner = True
                learner.kill()
                learner.wait()
                note("learner", f"The learner was killed after {len(done)} updates, while the next episodes were played, and resumed.")
                learner = start()
            elif playing and killed_learner and not killed_server and len(done) >= KILL_SERVER and len(servers) > 1:
                killed_server = True
                time.sleep(1.0)
                servers[1].kill()
                note("server", f"A server was killed after {len(done)} updates, while the next episodes were played, and started again.")
                servers[1].start()
                note("answer", f"It answered again after {servers[1].seconds:.0f} s; by then there were {len(lines_of(run / METRICS))} updates.")
    finally:
        learner.kill()
        learner.wait()
    if not (run / "report.json").is_file():
        sys.exit(f"the learner failed, see {place / 'learner.log'}")
    return {"ended": True}


# ---------------------------------------------------------------- afterwards: here and there
def compare(place: Path, chosen: Config, server: str, folder: Path, given: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Play the same tasks with the trained weights here and on a server."""
    run, way = place / "run", place.name
    lm = load_model(chosen.model.name, seed=chosen.run.seed, lora_rank=chosen.model.lora_rank, bfloat16=False, device=given.device)
    load_weights(lm, trained_weights(run), run)
    client = ChatClient(server, timeout=600.0, concurrency=256)
    common: dict[str, Any] = {"max_new_tokens": chosen.rollout.max_new_tokens}
    served = ServedPolicy(lm, HandOver([client], folder / "after", given.model), chosen.model.call_format, **common, update=10_000)
    here = evaluated_policy(lm, chosen, temperature=1.0)
    suite = make_suite("worlds", **chosen.task.suite_options, split="test")
    tasks = held_out(suite, min(COMPARED, given.tasks))
    found: dict[str, Any] = {}
    for name, policy in (("here", here), ("there", served)):
        policy.forget()  # hands the weights over
        started = time.perf_counter()
        played = rollout_tasks(policy, suite, tasks, width=len(tasks))
        seconds = time.perf_counter() - started
        steps = [step.generation for episode in played for step in episode.steps]
        read, written = sum(len(one.prompt_ids) for one in steps), sum(len(one.token_ids) for one in steps)
        found[name] = {"read": read, "written": written, "seconds": seconds, "success": sum(one.success for one in played) / len(played)}
        say(f"{way}: plays {(read + written) / seconds:.0f} tokens/s {name}, {written / seconds:.1f} of them written")
    greedy = evaluated_policy(lm, chosen)
    report, played = evaluate(greedy, suite, tasks)
    asked = questions(played)
    ending = {"limit": chosen.rollout.max_new_tokens, "ends": sorted(greedy.reading.ends), "stops": list(greedy.call_format.stop)}

    def progress(done: int, of: int) -> None:
        if done % 5 == 0:
            say(f"{way}: {done} of {of} actions asked again")

    answers = ask_server(server, served._model, asked, **ending, vocabulary=lm.vocabulary, progress=progress)
    served.close()
    client.close()
    exported = export_run(run, place / "export", force=True)
    one = tally(asked, answers, gaps(exported, asked, answers))
    return {**found, "success": report.success, "greedy": one._asdict(), "ties": one.ties}


@contextmanager
def serving(given: argparse.Namespace, model: str, rank: int, place: Path, say: Say) -> Iterator[tuple[list[str], list[Server]]]:
    """Yield endpoints, and the servers of a model that this script has started, for adapters of this rank."""
    if given.url:
        yield given.url.split(","), []
        return
    folder = converted(model) if model in PACKAGED else Path(model)
    folder = folder if rank else untied(folder, place / "served")
    with ExitStack() as stack:
        python, servers = environment(say), []
        for index in range(given.servers):
            options: dict[str, Any] = {"dtype": given.dtype, "lora_rank": rank, "threads": given.threads}
            servers.append(Server(python, folder, given.model, place / f"server-{index}.log", **options))
            stack.callback(servers[-1].kill)
            servers[-1].launch()
        for index, server in enumerate(servers):
            server.wait()
            say(f"{place.name}: server {index} is ready after {server.seconds:.0f} s")
        yield [server.endpoint for server in servers], servers


def measure(way: str, given: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Return all of a way."""
    place = given.out / way.replace(" ", "-")
    run = place / "run"
    folder, model = given.folder or place / "weights", given.model
    if way != "adapters" and "adapters" in given.ways and not given.url:  # begins where the adapters began
        begin = given.out / "begin"
        model = str(begin if begin.is_dir() else export_run(given.out / "adapters" / "run", begin, warm_start=True))

    place.mkdir(parents=True, exist_ok=True)
    listed = place / "servers.txt"  # a second start has other ports
    chosen = settings(way, model, listed, folder, given)
    with ExitStack() as stack:

        @functools.cache
        def started() -> tuple[list[str], list[Server]]:
            endpoints, servers = stack.enter_context(serving(given, model, WAYS[way], place, say))
            listed.write_text("\n".join(endpoints) + "\n", encoding="utf-8")
            return endpoints, servers

        command = learner_of(run, chosen, given.threads)
        if not given.so_far:
            once(place / "train.json", lambda: train(place, command, started()[1], given.threads, say))
            once(place / "compare.json", lambda: compare(place, chosen, started()[0][0], folder, given, say))
    compared = json.loads((place / "compare.json").read_text(encoding="utf-8")) if (place / "compare.json").is_file() else None
    success = [sum(one.success for one in played) / len(played) if played else math.nan for played in (read_episodes(run, before=True), read_episodes(run))]
    metrics = read_metrics(run)
    numbers = [value for line in metrics for name, value in line.items() if name in MISMATCH or name.startswith(("loss", "success", "reward", "grad"))]
    found = {
        "way": way,
        "events": [line["event"] for line in lines_of(place / "events.jsonl")],
        "compare": compared,
        "success": success,
        "finite": all(map(math.isfinite, numbers)),
        "metrics": metrics,
    }
    return {**found, "handed": lines_of(place / "handovers.jsonl")}


# ---------------------------------------------------------------- the page
def page(ways: list[dict[str, Any]], command: str, given: argparse.Namespace) -> str:
    who = given.url or f"{given.servers} servers ({VLLM}, {given.dtype})"
    lines = ["# A real vLLM plays", "", f"`{command}`: `step-ppo` with {given.model} on `worlds`, level 1;"]
    lines += [f"{given.demos} demonstrations, twice, then {given.updates} updates that {who} played; learner in float32"]
    lines += [f"with {given.threads} thread(s). Held-out tasks: {given.tasks}. One seed."]
    lines += ["", "| | finite | success before | after | greedy actions the same | episodes | differ, of them ties | reads and writes, tokens/s here | there |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for one in ways:
        compared = one["compare"]
        same, parted, rates = "not asked | ", "", [""] * 2
        if compared is not None:
            greedy = compared["greedy"]
            rates = [
                f"{(at['read'] + at['written']) / at['seconds']:.0f} ({at['written'] / at['seconds']:.1f})" for at in (compared["here"], compared["there"])
            ]
            same = " | ".join(f"{same} of {of}" for same, of in (greedy["actions"], greedy["episodes"]))
            parted = f"{len(greedy['parted'])}, {compared['ties']}"
        success = " | ".join("" if math.isnan(share) else f"{share:.2f}" for share in one["success"])
        finite = "yes" if one["finite"] else "**no**"
        lines.append(f"| {one['way']} | {finite} | {success} | {same} | {parted} | {' | '.join(rates)} |")
    lines += ["", f"In brackets: tokens written. Here and there the same {COMPARED} tasks are played side by side at temperature 1, here in float32; there by"]
    lines += [f"one server. Ties: equally likely to {TIE:g} nats. Importance: mean of the truncated weights. KL: of server and learner, nats a token."]
    for one in ways:
        lines += ["", f"## {one['way'].capitalize()}", "", f"{given.episodes or EPISODES[one['way']]} episodes an update.", ""]
        lines += ["| update | success | importance | truncated | KL | approx. KL | clip fraction | playing, s | learning, s | servers | failed | moved |"]
        lines += ["|---:|" + "---:|" * 11]
        for line in one["metrics"]:
            numbers = [f"{line['success']:.2f}", f"{line['importance']:.4f}", f"{line['importance_truncated']:.4f}", f"{line['sampling_kl']:.1e}"]
            numbers += [f"{line['approx_kl']:.1e}", f"{line['clip_fraction']:.3f}", f"{line['seconds_rollout']:.0f}", f"{line['seconds_update']:.0f}"]
            numbers += [f"{line[f'servers/{name}']:.0f}" for name in ("playing", "failed", "moved")]
            lines.append(f"| {line['update']:.0f} | {' | '.join(numbers)} |")
        lines += ["", *(f"- {event}" for event in one["events"]), "", "Handed over:", ""]
        lines += ["| | name | files | MB | servers that took it | s |", "|---:|---|---|---:|---:|---:|"]
        for told in one["handed"]:
            size = sum(told["files"].values()) / 1e6
            lines.append(f"| {told['update']} | {told['name']} | {', '.join(told['files'])} | {size:.1f} | {len(told['servers'])} | {told['seconds']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--tasks", type=int, default=10, help="held-out tasks (default: 10)")
    parser.add_argument("--demos", type=int, default=24, help="demonstrations of the warm start, shown twice (default: 24)")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--episodes", type=int, help=f"of an update (default: {', '.join(f'{count} of {way}' for way, count in EPISODES.items())})")
    parser.add_argument("--servers", type=int, default=2, help="to start (default: 2)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the servers that are started (default: float32)")
    parser.add_argument("--device", default="cpu", help="of the learner (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="of the learner, and of each server (default: 1)")
    parser.add_argument("--url", default="", help="endpoints of servers that run, separated by commas, instead of starting some")
    parser.add_argument("--folder", type=Path, help="through which weights go (default: within --out)")
    parser.add_argument("--so-far", action="store_true", help="run nothing: write the page of what there is")
    parser.add_argument("--out", type=Path, default=Path("runs/vllm_server"), help="folder of runs and results (default: runs/vllm_server)")
    parser.add_argument("--learn", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.learn:
        learn(given.learn, Config.from_dict(json.loads(given.settings)))
        return
    given.out = given.out.absolute()
    command = shlex.join(["python", "benchmarks/vllm_server.py", *sys.argv[1:]])

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    found = []
    for way in given.ways:
        found.append(measure(way, given, say))
        text = page(found, command, given)
        if all(getattr(given, name) == parser.get_default(name) for name in ("model", "updates")):
            RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
