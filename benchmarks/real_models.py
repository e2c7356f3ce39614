"""Real models, trained and exported: do plain transformers and a real vLLM give the greedy answers that they give here?

    python benchmarks/real_models.py                     # two models, two suites, an hour on a core; writes benchmarks/results/real_models.md
    python benchmarks/real_models.py --models tiny --demos 16 --updates 1 --tasks 4   # a trial; writes no page
    python benchmarks/real_models.py --models smollm2 --suites bfcl --dtypes float32 --url http://127.0.0.1:8000/v1   # a server that runs

In each cell, a model and a suite: ``step-ppo`` with adapters after a warm start, ``steptool export``, then the trained policy plays held-out
tasks greedily in float32, from the run itself. Every one of its actions is asked again, with exactly the tokens before it, of the exported folder:
of transformers in float32 (which token is the likeliest at every place, in one pass an episode; and ``generate``, for the first episodes), and of
vLLM's ``/v1/completions`` in float32 and bfloat16. Where an answer differs, the page says how much likelier our token is than theirs (both by
transformers in float32): near 0 it is a tie, which rounding decides.

What is done is kept in ``--out``; a second start goes on where the first one stopped. vLLM is installed in an environment of its own
(``serving_parts/vllm_process.py``). Needs the packages of smollm2, gemma3-270m and bfcl (see README). With ``--url`` no server is started: the one
named must serve the export of the one cell under the name "exported".
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from serving_parts.greedy import TIE, Answer, Question, Tally, ask_server, ask_transformers, gaps, questions, read_with_transformers, tally
from serving_parts.stored import once
from serving_parts.vllm_process import VLLM, Server, StartFailed, environment

from steptool_agents import Config, evaluate, export_run, held_out, load_algorithm, load_model, read_config, read_jsonl, read_metrics, write_jsonl
from steptool_agents.config import preset
from steptool_agents.runs.folder import load_weights, trained_weights
from steptool_agents.runs.policies import evaluated_policy
from steptool_env import make_suite

RESULTS = Path(__file__).parent / "results" / "real_models.md"
NAME = "exported"
TITLES = {"worlds": "worlds, level 1", "bfcl": "BFCL, simple"}
PLAIN, GENERATE = "transformers float32", "generate float32"
GENERATED = 2
"""Episodes that ``generate`` is asked about: it reads the whole prompt again for every action."""

Say = Callable[[str], None]


def settings(model: str, suite: str, given: argparse.Namespace) -> Config:
    """Return the settings of a cell's run: the preset, with a short training on top."""
    chosen = preset(model, suite, level=1)
    # The preset's 48 tokens are too few for a quarter of BFCL's solutions.
    chosen |= {"suite_options": {"category": "simple"}, "max_new_tokens": 80} if suite == "bfcl" else {}
    chosen |= {"demo_options": {}, "lora_rank": 8, "demo_lr": 1e-3, "lr": 3e-4, "kl": 0.0, "minibatches": 2, "demo_batch": 2, "report_to": "none"}
    # The script plays its own held-out tasks. A model that has not learnt to end calls to the last step, and pays with time.
    chosen |= {"demos": given.demos, "updates": given.updates, "episodes": given.episodes, "eval_episodes": 1, "max_steps": 4}
    return Config.of(**{"model.name": model, "suite": suite, **chosen})


def train(config: Config, run: Path, console: Console) -> dict[str, Any]:
    """Train, or go on with it; return the run's report."""
    if not (run / "report.json").is_file():
        load_algorithm("step-ppo")(config, run, resume=(run / "config.json").is_file(), console=console)
    report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return report


def play(cell: Path, tasks: int) -> dict[str, Any]:
    """Play held-out tasks greedily in float32, with the adapters beside the weights as they were trained; return what ends an action."""
    run = cell / "run"
    config = read_config(run)
    lm = load_model(config.model.name, seed=config.run.seed, lora_rank=config.model.lora_rank, bfloat16=False, device="cpu")
    load_weights(lm, trained_weights(run), run)
    policy = evaluated_policy(lm, config)
    suite = make_suite(config.task.suite, **config.task.suite_options, split="test")
    report, played = evaluate(policy, suite, held_out(suite, tasks), max_steps=config.task.max_steps)
    write_jsonl(cell / "played.jsonl", played)
    found = {"success": report.success, "limit": policy.max_new_tokens, "ends": sorted(policy.reading.ends)}
    return {**found, "stops": list(policy.call_format.stop), "vocabulary": lm.vocabulary, "format": policy.call_format.name}


def ask(cell: Path, way: str, asked: list[Question], ending: dict[str, Any], url: str, threads: int, say: Say) -> dict[str, Any]:
    """Ask one program every question; return its answers and the gaps, or why it could not be asked."""
    folder, (program, dtype) = cell / "export", way.split()
    limits = {name: ending[name] for name in ("limit", "ends", "stops")}

    def progress(done: int, of: int) -> None:
        if done % 10 == 0 or done == of:
            say(f"{cell.name}, {way}: {done} of {of} actions")

    started = 0.0
    if program == "transformers":
        answers, nats = read_with_transformers(folder, asked, progress=progress)
        return {"answers": [answer._asdict() for answer in answers], "gaps": nats}
    if program == "generate":
        answers = ask_transformers(folder, asked, **limits, progress=progress)
    elif url:
        answers = ask_server(url, NAME, asked, **limits, vocabulary=ending["vocabulary"], progress=progress)
    else:
        try:
            with Server(environment(say), folder, NAME, cell / f"vllm-{dtype}.log", dtype=dtype, threads=threads) as server:
                started = server.seconds
                say(f"{cell.name}, {way}: ready after {started:.0f} s")
                answers = ask_server(server.endpoint, NAME, asked, **limits, vocabulary=ending["vocabulary"], progress=progress)
        except StartFailed as fault:
            say(str(fault))
            return {"failed": str(fault)}
    return {"answers": [answer._asdict() for answer in answers], "gaps": gaps(folder, asked, answers), "start": started}


def file_of(cell: Path, way: str) -> Path:
    """Return where a cell keeps the answers of a program."""
    return cell / f"{way.replace(' ', '-')}.json"


def measure(model: str, suite: str, given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Return all of a cell."""
    cell = given.out / f"{model}-{suite}"

    def say(text: str) -> None:
        console.print(text, highlight=False)

    config, wanted = settings(model, suite, given), cell / "settings.json"
    told = json.loads(json.dumps({"config": config.as_dict(), "tasks": given.tasks}))
    if {key: value for key, value in once(wanted, lambda: told).items() if key != "seconds"} != told:
        sys.exit(f"{cell} holds a cell with other settings; give another --out")
    say(f"{model} on {TITLES[suite]}")
    report = train(config, cell / "run", console)
    if not (cell / "export").is_dir():
        export_run(cell / "run", cell / "export")
    ending = once(cell / "played.json", lambda: play(cell, given.tasks))
    asked = questions(read_jsonl(cell / "played.jsonl"))
    learnt = [line["success"] for line in read_metrics(cell / "run")]
    found: dict[str, Any] = {"model": model, "suite": suite, "seconds": report["seconds"], "learnt": learnt, "played": ending, "ways": {}}
    for way in [PLAIN, GENERATE, *(f"vLLM {dtype}" for dtype in given.dtypes)]:
        if given.so_far and not file_of(cell, way).is_file():
            continue
        some = [one for one in asked if way != GENERATE or one.episode < GENERATED]

        def make(way: str = way, some: list[Question] = some) -> dict[str, Any]:
            return ask(cell, way, some, ending, given.url, given.threads, say)

        told = once(file_of(cell, way), make)
        if "failed" in told:
            file_of(cell, way).unlink()  # another start tries again: there may have been too little memory
        else:
            told["tally"] = tally(some, [Answer(**answer) for answer in told["answers"]], told["gaps"])
        found["ways"][way] = told
    return found


# ---------------------------------------------------------------- the page
def row(title: str, way: str, told: dict[str, Any]) -> str:
    """Return a row of the table."""
    if "failed" in told:
        return f"| {title} | {way} | {told['failed']} | | | | | | |"
    one: Tally = told["tally"]
    shares = [f"{same} of {of}" for same, of in (one.actions, one.episodes, one.tokens)]
    median = "" if one.median_gap is None else f"{one.median_gap:.2g}"
    parted = f"{len(one.parted)} | {one.ties} | {median}" if one.parted else "0 | |"
    return f"| {title} | {way} | {' | '.join(shares)} | {one.furthest:.1g} | {parted} |"


def page(cells: list[dict[str, Any]], command: str, given: argparse.Namespace) -> str:
    lines = ["# Real models, exported", "", f"`{command}`: `step-ppo` with adapters (rank 8) after a warm start on"]
    lines += [f"{given.demos} demonstrations; {given.updates} updates of {given.episodes} episodes; exported with adapters and weights in one."]
    lines += [f"The trained policy plays {given.tasks} held-out tasks greedily in float32. Every action is asked again of the exported folder, with exactly"]
    lines += ["the tokens before it: of transformers by one pass an episode, which says what is likeliest at every place; of `generate` those of the first"]
    lines += [f"{GENERATED} episodes; of vLLM's server all. One seed, one core.", ""]
    lines += ["| | asked | same actions | same episodes | same tokens | largest difference, nats | differ | of them ties | median gap, nats |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [row(f"`{cell['model']}`, {TITLES[cell['suite']]}", way, told) for cell in cells for way, told in cell["ways"].items()]
    lines += ["", "Same tokens: those before the first difference of their action. Largest difference: of the log-probabilities that both give to such a"]
    lines += [f"token. Gap: by how many nats the two tokens differ where an action first differs, by transformers in float32; below {TIE:g} it is a tie."]
    lines += ["", "| | success in training, by update | greedy, held out | tokens asked | training, s | playing, s | transformers, s | vLLM, s (start) |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---|"]
    for cell in cells:
        ways, played = cell["ways"], cell["played"]
        tokens = max((told["tally"].tokens[1] for told in ways.values() if "tally" in told), default=0)
        vllm = ", ".join(f"{way.split()[1]} {told['seconds']:.0f} ({told.get('start', 0.0):.0f})" for way, told in ways.items() if way.startswith("vLLM"))
        spent = f"{cell['seconds']:.0f} | {played['seconds']:.0f} | {ways[PLAIN]['seconds']:.0f} | {vllm}"
        success = f"{', '.join(f'{one:.2f}' for one in cell['learnt'])} | {played['success']:.2f}"
        lines.append(f"| `{cell['model']}`, {TITLES[cell['suite']]} | {success} | {tokens} | {spent} |")
    lines += ["", f"At most four calls an episode. {VLLM} with `--enforce-eager`; its seconds are those of all questions, eight at a time,"]
    lines += ["its start included. All seconds are of the wall clock, with whatever else the machine did."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3-270m"])
    parser.add_argument("--suites", nargs="+", default=["worlds", "bfcl"], choices=list(TITLES))
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"], choices=["float32", "bfloat16"], help="of vLLM")
    parser.add_argument("--tasks", type=int, default=20, help="held-out tasks (default: 20)")
    parser.add_argument("--demos", type=int, default=20, help="demonstrations of the warm start (default: 20)")
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=4, help="of an update (default: 4)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--so-far", action="store_true", help="run nothing: write the page of what there is")
    parser.add_argument("--out", type=Path, default=Path("runs/real_models"), help="folder of runs, exports and answers (default: runs/real_models)")
    parser.add_argument("--url", default="", help="a server that serves the export of the one cell as 'exported', instead of starting one")
    given = parser.parse_args()
    cells = [(model, suite) for model in given.models for suite in given.suites]
    if given.so_far:
        cells = [(model, suite) for model, suite in cells if file_of(given.out / f"{model}-{suite}", PLAIN).is_file()]
    if given.url and (len(cells) > 1 or len(given.dtypes) > 1):
        parser.error("--url serves one model: give one of --models, --suites and --dtypes each")
    torch.set_num_threads(given.threads)
    given.out = given.out.absolute()
    console = Console(stderr=True)
    command = shlex.join(["python", "benchmarks/real_models.py", *sys.argv[1:]])
    found = []
    for model, suite in cells:
        found.append(measure(model, suite, given, console))
        text = page(found, command, given)
        if "tiny" not in given.models and given.tasks == parser.get_default("tasks"):
            RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
