"""``model_card``: what an exported model is, how it was made, how good it is, and how to load it, as Markdown."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steptool_env import __version__
from steptool_env.rendering import printable
from steptool_env.types import Message, ToolCall
from steptool_env.words import counted

from ..config import Config
from ..models.loading import MODELS
from ..models.packaged import PACKAGED
from ..policies.local import LMPolicy
from ..show.tables import report_rows

__all__ = ["CARD", "SETTINGS", "model_card"]

CARD, SETTINGS = "README.md", "steptool_run.json"
"""The model card; and the run's settings, by which an export is known as one."""

_TOOL = {
    "type": "function",
    "function": {
        "name": "get_price",
        "description": "Look up the price of a product.",
        "parameters": {"type": "object", "properties": {"product": {"type": "string"}}, "required": ["product"]},
    },
}
_TASK, _CALL, _RESULT = "What does product 17 cost?", ToolCall("get_price", {"product": "17"}), "3.50"


def model_card(
    run: Path, folder: Path, config: Config, report: Mapping[str, Any] | None, policy: LMPolicy, *, adapters: bool = False, warm_start: bool = False
) -> str:
    """Return the model card of an export.

    Args:
        run: The run's folder.
        folder: Where the export will be.
        config: The run's settings.
        report: The run's; None if it has not ended.
        policy: Plays with the exported weights.
        adapters: Whether the adapters alone are exported.
        warm_start: Whether it is the policy before reinforcement learning.
    """
    learned = not warm_start and report is not None and bool(report["updates"])
    ways = ["demonstrations"] * bool(config.warm_start.demos) + [_code(config.learning.algo)] * learned
    trained = f"trained on {_code(config.task.suite)} by {' and '.join(ways)}" if ways else "not trained any further"
    what = "Low-rank adapters of" if adapters else "A language model that began as"
    parts = [
        _front_matter(config.model.name, adapters),
        f"# {_plain(folder.name)}",
        f"{what} {_code(config.model.name)}, {trained}: it calls tools in several steps. Made with StepTool, after the paper arXiv 2410.07745.",
        "## What it was trained on\n\n" + _table(("", ""), _training(config, report, warm_start)),
        "## Results\n\n" + _results(config, report, warm_start),
        "## How to load it\n\n" + _loading(config, folder, policy, adapters),
        "## How to talk to it\n\n" + _talking(config, policy),
        "## How it was made\n\n" + _made(run, folder, adapters, warm_start),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(model: str, adapters: bool) -> str:
    lines = [f"library_name: {'peft' if adapters else 'transformers'}", "pipeline_tag: text-generation", "tags: [steptool, tool-use, reinforcement-learning]"]
    if model not in MODELS and re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists():
        lines.append(f"base_model: {json.dumps(model)}")
    return "\n".join(["---", *lines, "---"])


def _training(config: Config, report: Mapping[str, Any] | None, warm_start: bool) -> list[tuple[str, str]]:
    task, warm, run = config.task, config.warm_start, config.run
    rows = [
        ("model", f"{_code(config.model.name)}{f' ({PACKAGED[config.model.name].title})' if config.model.name in PACKAGED else ''}"),
        ("what learned", f"adapters of rank {config.model.lora_rank}" if config.model.lora_rank else "all weights"),
        ("suite", _code(task.suite)),
        ("its options", _code(task.suite_options)),
        ("demonstrations", f"{warm.demos}, {counted(warm.demo_epochs, 'epoch')}; options {_code(warm.demo_options)}" if warm.demos else "none"),
        ("seed", str(run.seed)),
    ]
    if not warm_start:
        caps = [f"{cap:,} {what}" for cap, what in ((run.budget_steps, "steps"), (run.budget_tokens, "tokens")) if cap]
        limits = [counted(run.updates, "update"), *caps]
        rows += [
            ("algorithm", _with_options(config.learning.algo, config.learning.algo_options)),
            ("credit", _code(config.learning.credit)),
            ("shaper", _with_options(task.shaper, task.shaper_options)),
            ("budget", " or ".join(limits)),
        ]
        if report is not None:
            spent = f"{counted(report['updates'], 'update')}, {report['env_steps']:,} steps of the environment, {report['model_tokens']:,} tokens"
            rows.append(("of which it used", f"{spent}, {report['seconds']:.0f} s in its last session"))
    license_ = PACKAGED[config.model.name].license if config.model.name in PACKAGED else "MIT" if config.model.name == "tiny" else ""
    return [*rows, ("license of the weights before training", license_ or "see that model")]


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    return f"{_code(name)}, options {_code(options)}" if options else _code(name)


def _results(config: Config, report: Mapping[str, Any] | None, warm_start: bool) -> str:
    if report is None:
        return "None: the run had not ended when this was exported."
    columns, rows = report_rows(dict(report))
    intervals = "Greedy play; success with 95 % bootstrap intervals."
    note = " This is the model of the column *warm start*." if warm_start and report["before"] is not None else ""
    if warm_start and report["before"] is None:
        note = " They are those of the run's end; the warm start was not measured apart."
    lines = [(label.strip(), *cells) for label, cells in rows]
    return f"{report['after']['episodes']} held-out tasks of {_code(config.task.suite)}. {intervals}{note}\n\n" + _table(("", *columns), lines)


def _loading(config: Config, folder: Path, policy: LMPolicy, adapters: bool) -> str:
    place = str(folder)
    shell, name = shlex.quote(place), _plain(folder.name)
    if adapters:
        base = str(policy.lm.config._name_or_path or config.model.name)
        code = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({base!r})",
            f"model = PeftModel.from_pretrained(base, {place!r})",
        ]
        rank = next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= config.model.lora_rank), config.model.lora_rank)
        serve = f"vllm serve {shlex.quote(base)} --enable-lora --max-lora-rank {rank} --lora-modules {shlex.quote(f'{name}={place}')}"
    else:
        code = ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", f"model = AutoModelForCausalLM.from_pretrained({place!r})"]
        serve = f"vllm serve {shell} --served-model-name {shlex.quote(name)}"
    code.append(f"tokenizer = AutoTokenizer.from_pretrained({place!r})")
    options = [part for option, value in config.task.suite_options.items() for part in ("--option", f"{option}={json.dumps(value)}")]
    play = shlex.join(["steptool", "eval", "--model", place, "--suite", config.task.suite, "--call-format", config.model.call_format, *options])
    again = f"{play}\nsteptool train --model {shell} --config {shlex.quote(str(folder / SETTINGS))} --out runs/further"
    return "\n\n".join(
        [
            "With transformers, in float32:\n\n" + _fenced("\n".join(code), "python"),
            "With vLLM:\n\n" + _fenced(serve, "bash"),
            "With StepTool, to measure it or to train it further:\n\n" + _fenced(again, "bash"),
            "The value head, which only training needs, is not part of it.",
        ]
    )


def _talking(config: Config, policy: LMPolicy) -> str:
    form = policy.call_format.name
    settings = f"call format {_code(config.model.call_format)}{f', here {_code(form)}' if form != config.model.call_format else ''}"
    if config.model.chat_template_options:
        settings += f", options of the chat template {_code(config.model.chat_template_options)}"
    style = getattr(policy.lm.config, "steptool_prompt", None)
    said = f"It was trained with the {settings}, on answers of at most {config.rollout.max_new_tokens} tokens."
    if style is not None:
        said += f' Its configuration says `"steptool_prompt": {json.dumps(style)}`, and StepTool writes its prompts as plain lines. It knows no other form.'
    elif policy.lm.tokenizer.chat_template:
        said += " Prompts are written with the tokenizer's chat template."
    else:
        said += " It has no chat template; StepTool writes its prompts as plain lines."
    stop = f" An answer ends with an end-of-turn token, or with {' or '.join(map(_code, policy.call_format.stop))}." if policy.call_format.stop else ""
    return f"{said}{stop} A conversation, token by token as it was trained on:\n\n" + _fenced(_conversation(policy))


def _conversation(policy: LMPolicy) -> str:
    """Return a call and its result as the model reads and writes them, control tokens included."""
    prompts, tools = policy.prompts, json.dumps([_TOOL])
    ids = prompts.prompt({"messages": (Message("user", _TASK),), "tools": tools})
    written = prompts.write(_CALL)
    action, result = Message("assistant", _CALL.as_json()), Message("tool", _RESULT)
    return policy.reading.text([*ids, *written.ids, *prompts.extend(action, (result,), "", ended=written.ended)])


def _made(run: Path, folder: Path, adapters: bool, warm_start: bool) -> str:
    flags = [flag for flag, given in (("--adapters", adapters), ("--warm-start", warm_start)) if given]
    commands = [
        shlex.join(["steptool", "export", str(run), "--to", str(folder), *flags]),
        f"steptool train --config {SETTINGS} --out runs/again    # the same training once more",
    ]
    return f"With steptool-env {__version__}:\n\n" + _fenced("\n".join(commands), "bash")


# ---------------------------------------------------------------- Markdown
def _plain(text: str) -> str:
    """Return text of somebody else's on one line, without what Markdown would take for more than text."""
    return re.sub(r"[\s`|<>\[\]*_#\\]+", "-", printable(text)) if re.search(r"[\s`|<>\[\]*#\\]", text) else printable(text)


def _code(value: object) -> str:
    """Return a value as code within a line or a cell."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = printable(text).replace("\n", " ").replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _fenced(text: str, language: str = "") -> str:
    longest = max([2, *map(len, re.findall(r"`+", text))])
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)] if len(header) > 2 else ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
