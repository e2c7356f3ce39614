"""Every text template of TRL: what a model with it gets, and whether what is written piece by piece is what the template writes as a whole.

    python benchmarks/templates.py            # writes benchmarks/results/templates.md; needs: pip install --no-deps trl==1.16.0
    python benchmarks/templates.py --json

Each template is put on a tokenizer of bytes that has its control tokens. A conversation of three calls of two tools is written piece by piece, as
an episode is: the prompt, the call that the model would write, what comes behind it, and so on. ``whole``: whether the pieces, joined, are what
``apply_chat_template`` makes of the conversation. Where they are not, the page says what differs: the reasoning of earlier turns, which stays
here and which some templates leave out or write with other white space. ``read back``: whether the call that the template itself writes is
read without a repair.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from steptool_agents.chat.native import NativePrompts
from steptool_agents.chat.prompts import Chat, make_chat
from steptool_env import Message, StepToolError, ToolCall
from steptool_env.formats import read

RESULTS = Path(__file__).parent / "results" / "templates.md"
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": about,
            "parameters": {"type": "object", "properties": {key: {"type": kind} for key, kind in keys.items()}, "required": list(keys)},
        },
    }
    for name, about, keys in (("get_weather", "The weather.", {"city": "string", "days": "integer"}), ("finish", "Ends.", {"answer": "string"}))
]
CALLS = [ToolCall("get_weather", {"city": "Oslo", "days": 2}), ToolCall("get_weather", {"city": "New York", "days": 1}), ToolCall("finish", {"answer": "rain"})]
ASKED = Message("user", "Where does it rain?")
RESULT = "It rains."

_CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|?>|<[^|<>\s/]{1,30}\|>|<\uff5c[^\uff5c]{1,30}\uff5c>|\[/?[A-Z_]{3,20}\]"
    r"|</?(?:think|tool_call|tool_response|start_of_turn|end_of_turn)>|<eos>"
)
_ENDS = (
    "<|im_end|> <|eot_id|> <|eom_id|> <|eot|> <|call|> <|return|> <turn|> <|tool_response> <|END_OF_TURN_TOKEN|> "
    "<\uff5cend\u2581of\u2581sentence\uff5c> <end_of_turn> <|end|> <|observation|> </s>"
)
"""End-of-turn tokens, as the generation settings of these models name them; the tokenizer's own is the first that a template has."""


def folder() -> Path | None:
    """Return where TRL keeps its templates; None if it is not installed."""
    found = importlib.util.find_spec("trl")
    return Path(str(found.origin)).parent / "chat_templates" if found is not None else None


def templates() -> Iterator[tuple[str, str]]:
    """Yield the names and texts of all templates."""
    place = folder()
    for path in sorted(place.glob("*.jinja")) if place is not None else ():
        yield path.stem, path.read_text(encoding="utf-8")


def tokenizer_of(template: str) -> tuple[Any, list[int]]:
    """Return a tokenizer of bytes with a template and its control tokens, and the ids of its end-of-turn tokens."""
    inner = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    marks = sorted(set(_CONTROL.findall(template)))
    inner.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    ends = [one for one in _ENDS.split(" ") if one in marks]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=ends[0] if ends else "<eos>", bos_token="<bos>")
    tokenizer.chat_template = template
    return tokenizer, [int(tokenizer.convert_tokens_to_ids(one)) for one in ends]


def pieces(chat: Chat, calls: list[ToolCall] = CALLS, result: str = RESULT) -> list[list[int]]:
    """Return an episode piece by piece: prompt, call, what comes behind it, call …; the last call ends it."""
    prompts = chat.prompts
    made = [prompts.prompt({"messages": (ASKED,), "tools": json.dumps(TOOLS)})]
    for call in calls:
        written = prompts.write(call)
        action = Message("assistant", call.as_json())
        made += [written.ids, prompts.extend(action, [Message("tool", result)], "", ended=written.ended)]
    return made


def whole(chat: Chat, calls: list[ToolCall] = CALLS, result: str = RESULT) -> str:
    """Return the template's own text of the same conversation."""
    prompts: Any = chat.prompts
    if isinstance(prompts, NativePrompts):
        turns: list[dict[str, Any]] = [{"role": "user", "content": ASKED.content}]
        for call in calls:
            turns += [prompts.form.call(call.name, call.arguments), prompts.form.answer(call.name, result)]
        tools: list[dict[str, Any]] | None = TOOLS
    else:
        instructions, tools = chat.writes.instructions(TOOLS), None
        turns = [{"role": "system", "content": instructions}, {"role": "user", "content": ASKED.content}]
        if not prompts.template.has_system:
            turns = [{"role": "user", "content": f"{instructions}\n\n{ASKED.content}"}]
        for call in calls:
            turns += [{"role": "assistant", "content": chat.writes.render(call)}, {"role": "user", "content": f"<tool_response>\n{result}\n</tool_response>"}]
    return str(prompts.template.render(turns, tools=tools, generation=True))


def differences(one: str, other: str) -> list[str]:
    """Return what only one of two texts has, in pieces between control tokens."""
    mine, its = (re.split(f"({_CONTROL.pattern})", text) for text in (one, other))
    matcher = difflib.SequenceMatcher(None, mine, its, autojunk=False)
    found = ["".join(mine[a:b]) + "".join(its[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]
    return list(dict.fromkeys(text.strip() or "white space" for text in found))


def examine(name: str, template: str) -> dict[str, Any]:
    """Return the row of a template."""
    tokenizer, ends = tokenizer_of(template)
    row: dict[str, Any] = {"template": name}
    try:
        chat = make_chat(tokenizer, ends=ends)
    except StepToolError as fault:
        return {**row, "refused": str(fault).partition(";")[0]}
    native = isinstance(chat.prompts, NativePrompts)
    row |= {"tools": "native" if native else "explained", "form": chat.reads.name}
    row["results"] = "tool" if isinstance(chat.prompts, NativePrompts) and chat.prompts.form.result else "user"
    written = chat.prompts.write(CALLS[0])
    reading = read(chat.reads, written.text, prefix=chat.prompts.opening, tools=TOOLS)
    row["read_back"] = reading.action == CALLS[0] and not reading.repaired
    text = tokenizer.decode([token for piece in pieces(chat) for token in piece], skip_special_tokens=False)
    expected = whole(chat)
    row |= {"whole": text == expected, "differs": [] if text == expected else differences(text, expected)}
    return row


def markdown(rows: list[dict[str, Any]], command: str) -> str:
    """Return the page."""
    tick = {True: "yes", False: "no"}
    lines = ["# Chat templates", "", f"Made by `{command}`.", "", *(__doc__ or "").strip().splitlines()[5:], ""]
    native = [row for row in rows if row.get("tools") == "native"]
    lines += [f"{len(rows)} templates: {len(native)} with tools in their own words, {sum('refused' in row for row in rows)} refused.", ""]
    lines += ["| template | tools | form | role of results | read back | whole | what differs |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['template']} | refused: {row['refused']} | | | | | |")
            continue
        differs = ", ".join(f"`{text}`" for text in row["differs"]).replace("|", "\\|").replace("\n", "↵")
        cells = [row["template"], row["tools"], f"`{row['form']}`", row["results"], tick[row["read_back"]], tick[row["whole"]], differs]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if folder() is None:
        parser.error("TRL's templates are needed: pip install --no-deps trl==1.16.0")
    rows = [examine(name, template) for name, template in templates()]
    if given.json:
        print(json.dumps({"benchmark": "templates", "results": rows}))
        return
    text = markdown(rows, shlex.join(["python", "benchmarks/templates.py", *sys.argv[1:]]))
    given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
