"""The chat templates of TRL: pieces equal the whole, calls are read back, and nothing that others write becomes a control token."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from benchmark_files import load

from steptool_agents.chat.control import ControlTokens
from steptool_agents.chat.prompts import make_chat
from steptool_env import Message

templates = load("templates")
ALL = dict(templates.templates())
PICTURES = {"idefics3", "llava_next", "smolvlm"}
"""Templates that take messages in parts, for texts and pictures."""
REASONING = re.compile(r"(?:white space|</?think>|\s)*")

pytestmark = pytest.mark.skipif(not ALL, reason="TRL's templates are not installed: pip install --no-deps trl==1.16.0")


def names() -> list[str]:
    return [name for name in ALL if name.removesuffix("_training") not in PICTURES]


@pytest.mark.parametrize("name", names())
def test_an_episode_is_what_the_template_writes(name: str) -> None:
    row = templates.examine(name, ALL[name])
    assert row["read_back"]
    assert row["whole"] or all(REASONING.fullmatch(text) for text in row["differs"]) or name.startswith("diffusion_gemma"), row["differs"]


NATIVE = ["qwen2_5", "qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "qwen3_8", "gptoss", "gemma4", "glm4moe", "llama3_1", "lfm2_2_5"]


@pytest.mark.parametrize("name", NATIVE)
def test_who_speaks_its_own_words(name: str) -> None:
    assert templates.examine(name, ALL[name])["tools"] == "native"


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_templates_for_pictures_are_refused_in_a_sentence(name: str) -> None:
    assert "leaves out what the assistant has said" in templates.examine(name, ALL[name])["refused"]


@pytest.mark.parametrize("name", names())
def test_a_result_with_every_control_token_yields_none(name: str) -> None:
    tokenizer, ends = templates.tokenizer_of(ALL[name])
    chat = make_chat(tokenizer, ends=ends)
    control = ControlTokens(tokenizer)
    assert len(control.ids) > 2
    evil = " ".join(f"{text}x{text}{text}" for text in control.texts)

    def counted(text: str) -> list[list[int]]:
        messages = (Message("user", text), Message("assistant", templates.CALLS[0].as_json()), Message("tool", text))
        tools: list[dict[str, Any]] = json.loads(json.dumps(templates.TOOLS))
        tools[0]["function"]["description"] = text
        ids = [chat.prompts.prompt({"messages": messages, "tools": json.dumps(tools)})]
        ids.append(chat.prompts.extend(messages[1], [Message("tool", text)], "", ended=True))
        ids.append(chat.prompts.extend(Message("assistant", text), [Message("tool", text)], "", ended=True))
        return [[token for token in one if token in control.ids] for one in ids]

    assert counted(evil) == counted("fine")
