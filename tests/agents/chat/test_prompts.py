"""Prompts: what is written piece by piece is, joined, what a chat template renders for the whole conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lms import TOOLS, tokenizer

from steptool_agents.chat.plain import PlainPrompts
from steptool_agents.chat.prompts import make_prompts
from steptool_agents.chat.templates import ChatPrompts
from steptool_env.errors import NotSupported
from steptool_env.formats import make_format
from steptool_env.types import Message, ToolCall

MORE = json.dumps([*json.loads(TOOLS), {"type": "function", "function": {"name": "send", "description": "Send.", "parameters": {"type": "object"}}}])

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<end>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Like Qwen2.5's: a system text with the tools, and tool results as user turns with tags.
QWEN = (
    "{% if tools %}{{ '<|im_start|>system\\nTools:\\n<tools>' }}{% for t in tools %}{{ '\\n' + (t | tojson) }}{% endfor %}"
    "{{ '\\n</tools>\\nReply with <tool_call>\\n{...}\\n</tool_call><end>\\n' }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ '<|im_start|>user\\n<tool_response>\\n' + m['content'] + '\\n</tool_response><end>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<end>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Leaves out what the assistant said before the last turn.
FORGETFUL = (
    "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{{ m['content'] + '<end>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Like Mistral's or Gemma's: user and assistant take turns, and nobody else.
STRICT = (
    "{% for m in messages %}{% if m['role'] not in ('user', 'assistant', 'system') %}{{ raise_exception('unknown role') }}{% endif %}"
    "{% if loop.index0 and m['role'] == messages[loop.index0 - 1]['role'] %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{{ m['content'] + '<end>' }}{% else %}{{ '[INST]' + m['content'] + '[/INST]' }}{% endif %}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "qwen": QWEN, "strict": STRICT}

FORMAT = make_format("hermes")
CALLS = [FORMAT.render(ToolCall("look", {"at": f"o{k}"})) for k in range(3)]


def chat_tokenizer(template: str) -> Any:
    its = tokenizer()
    its.chat_template = template
    return its


def opening(prompts: ChatPrompts, tools: str = TOOLS) -> list[dict[str, str]]:
    system = [] if prompts.native_tools else [{"role": "system", "content": FORMAT.instructions(json.loads(tools))}]
    return [*system, {"role": "user", "content": "Find it."}]


def conversation(prompts: ChatPrompts, ended: bool) -> tuple[str, str]:
    """Return the joined pieces of an episode with a tool result and a further wish of the user, and the template's text of it."""
    its = prompts.tokenizer
    eos = [its.eos_token_id] if ended else []
    result = {"role": "tool", "content": "Nothing there."}
    if not prompts.tool_role:
        result = {"role": "user", "content": "<tool_response>\nNothing there.\n</tool_response>"}
    pieces = [
        prompts.prompt({"messages": (Message("user", "Find it."),), "tools": TOOLS}),
        [*its.encode(CALLS[0]), *eos],
        prompts.extend([Message("tool", "Nothing there.")], "", ended=ended),
        [*its.encode(CALLS[1]), *eos],
        prompts.extend([Message("user", "And now? Ä 🙂")], "", ended=ended),
    ]
    said = [{"role": "assistant", "content": call} for call in CALLS]
    chat = [*opening(prompts), said[0], result, said[1], {"role": "user", "content": "And now? Ä 🙂"}]
    tools = json.loads(TOOLS) if prompts.native_tools else None
    expected = its.apply_chat_template(chat, tools=tools, add_generation_prompt=True, tokenize=False)
    return its.decode([token for piece in pieces for token in piece], skip_special_tokens=False), expected


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_pieces_are_the_whole(name: str, ended: bool) -> None:
    got, expected = conversation(ChatPrompts(chat_tokenizer(TEMPLATES[name]), FORMAT), ended)
    assert got == expected


@pytest.mark.parametrize(("name", "tools", "role"), [("chatml", False, False), ("qwen", True, True), ("strict", False, False)])
def test_what_a_template_knows(name: str, tools: bool, role: bool) -> None:
    prompts = ChatPrompts(chat_tokenizer(TEMPLATES[name]), FORMAT)
    assert (prompts.native_tools, prompts.tool_role) == (tools, role)


def test_a_tool_section_for_another_call_format_is_not_used() -> None:
    prompts = ChatPrompts(chat_tokenizer(QWEN), make_format("react"))
    assert not prompts.native_tools
    text = prompts.tokenizer.decode(prompts.prompt({"messages": (Message("user", "Find it."),), "tools": TOOLS}))
    assert "Action Input:" in text
    assert "</tool_call>" not in text


@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_that_are_revealed_later_come_with_the_users_next_message(name: str) -> None:
    prompts = ChatPrompts(chat_tokenizer(TEMPLATES[name]), FORMAT)
    its = prompts.tokenizer
    news = FORMAT.instructions(json.loads(MORE))
    got = its.decode(prompts.extend([Message("user", "Now send it.")], MORE, ended=False))
    chat = [*opening(prompts), {"role": "assistant", "content": CALLS[0]}, {"role": "user", "content": f"{news}\n\nNow send it."}]
    whole = its.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert whole.endswith(got)
    assert whole.removesuffix(got).endswith(CALLS[0])


def test_tools_that_are_revealed_with_a_tool_result() -> None:
    prompts = ChatPrompts(chat_tokenizer(QWEN), FORMAT)
    text = prompts.tokenizer.decode(prompts.extend([Message("tool", "Done.")], MORE, ended=True))
    assert text.index("Done.") < text.index("send(")


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(NotSupported, match="rewrites earlier turns"):
        ChatPrompts(chat_tokenizer(FORGETFUL), FORMAT)


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_episode_that_is_under_way(name: str) -> None:
    """What the environment stores as JSON is shown as the model would have written it."""
    prompts = ChatPrompts(chat_tokenizer(TEMPLATES[name]), FORMAT)
    said = Message("assistant", json.dumps({"name": "look", "arguments": {"at": "o0"}}))
    messages = (Message("user", "Find it."), said, Message("tool", "Nothing there."))
    text = prompts.tokenizer.decode(prompts.prompt({"messages": messages, "tools": TOOLS}))
    assert CALLS[0] in text
    assert "<tool_response>\nNothing there.\n</tool_response>" in text


# ---------------------------------------------------------------- without a template
def test_plain_and_terse() -> None:
    prompts = PlainPrompts(tokenizer(), FORMAT, terse=True)
    decode = prompts.tokenizer.decode
    assert decode(prompts.prompt({"messages": (Message("user", "Find it."),), "tools": MORE})) == "Tools: look send\nTask: Find it.\n"
    assert decode(prompts.extend([Message("tool", "A17")], "", ended=True)) == "\nA17\n"
    assert decode(prompts.extend([Message("user", "And?")], MORE, ended=False)) == "\nTools: look send\nTask: And?\n"


def test_plain_with_instructions() -> None:
    prompts = PlainPrompts(tokenizer(), FORMAT)
    decode = prompts.tokenizer.decode
    instructions = FORMAT.instructions(json.loads(TOOLS))
    assert decode(prompts.prompt({"messages": (Message("user", "Find it."),), "tools": TOOLS})) == f"{instructions}\nTask: Find it.\n"
    assert decode(prompts.extend([Message("tool", "A17")], "", ended=True)) == "\nObservation: A17\n"


def test_a_plain_episode_that_is_under_way() -> None:
    prompts = PlainPrompts(tokenizer(), FORMAT, terse=True)
    said = Message("assistant", json.dumps({"name": "look", "arguments": {"at": "o0"}}))
    messages = (Message("user", "Find it."), said, Message("tool", "A17"), Message("assistant", "no call [1]"), Message("tool", "Error"))
    text = prompts.tokenizer.decode(prompts.prompt({"messages": messages, "tools": TOOLS}))
    assert text == f"Tools: look\nTask: Find it.\n{CALLS[0]}\nA17\nno call [1]\nError\n"


def test_which_prompts_a_model_gets() -> None:
    plain = make_prompts(tokenizer(), FORMAT)
    terse = make_prompts(chat_tokenizer(CHATML), FORMAT, "terse")
    assert isinstance(plain, PlainPrompts) and not plain.terse
    assert isinstance(terse, PlainPrompts) and terse.terse
    assert isinstance(make_prompts(chat_tokenizer(CHATML), FORMAT), ChatPrompts)
