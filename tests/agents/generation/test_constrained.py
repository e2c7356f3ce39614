"""Constrained decoding: whatever the weights, only valid calls are written; the log-probabilities stay the policy's own."""

from __future__ import annotations

import json
import sys

import pytest
from lms import Conversation, act, from_scratch, language_model

from steptool_agents.generation.constrained import grammar
from steptool_agents.policies.local import LMPolicy
from steptool_env.errors import MissingExtra, NotSupported
from steptool_env.formats import make_format
from steptool_env.types import ToolCall

pytest.importorskip("llguidance")

PARAMETERS = {
    "type": "object",
    "properties": {"item": {"enum": ["a", "bc"]}, "count": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["item"],
    "additionalProperties": False,
}
NONE = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in (("take", PARAMETERS), ("look", NONE))]


@pytest.mark.parametrize("call_format", ["hermes", "llama3", "mistral", "react"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_random_weights_write_valid_calls(call_format: str, temperature: float) -> None:
    policy = LMPolicy(language_model(), call_format, temperature=temperature, max_new_tokens=80, constrained=True)
    talks = [Conversation(f"Take {k}.", json.dumps(TOOLS)) for k in range(12)]
    for _ in range(2):
        act(policy, talks)
        for talk in talks:
            action = talk.generations[-1].action
            assert isinstance(action, ToolCall), talk.generations[-1]
            if action.name == "take":
                assert action.arguments["item"] in ("a", "bc") and 1 <= action.arguments.get("count", 1) <= 99
            else:
                assert (action.name, dict(action.arguments)) == ("look", {})
            talk.answer("Taken.")
    said = {talk.generations[0].action.name for talk in talks if isinstance(talk.generations[0].action, ToolCall)}
    assert temperature == 0 or said == {"take", "look"}


def test_log_probabilities_are_those_of_the_policy() -> None:
    lm = language_model()
    talk = Conversation("Take one.", json.dumps(TOOLS))
    act(LMPolicy(lm, max_new_tokens=60, constrained=True), [talk])
    one = talk.generations[0]
    logprobs, _ = from_scratch(lm, talk.ids)
    place = len(one.prompt_ids)
    expected = [logprobs[place - 1 + k, token].item() for k, token in enumerate(one.token_ids)]
    assert list(one.logprobs) == pytest.approx(expected, abs=1e-4)
    assert min(one.logprobs) < -3  # random weights would have said something else


def test_grammars() -> None:
    react = grammar(make_format("react"), TOOLS, "\nObservation")
    assert '"Action: look\\nAction Input: " %json' in react and react.count('"\\nObservation"') == 2
    assert '"const": "take"' in grammar(make_format("hermes"), TOOLS)


@pytest.mark.parametrize("call_format", ["openai", "pythonic"])
def test_formats_without_a_json_object_are_refused(call_format: str) -> None:
    with pytest.raises(NotSupported, match=f"{call_format}.*hermes, llama3, mistral, react can"):
        LMPolicy(language_model(), call_format, constrained=True)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtra, match=r"llguidance.*steptool-env\[constrained\]"):
        LMPolicy(language_model(), constrained=True)
