"""Model servers as policies: any OpenAI-compatible endpoint (vLLM, llama.cpp, hosted), over ``servers.client.ChatClient``.

With native tool calls the server's own template writes the tools and parses the call; with a call format, both are done here.
Log-probabilities and token ids are kept where the server sends them; training needs both.

An episode whose request is given up, be it that the server's tokens cannot have been sampled, ends with a masked step
(``Unanswered``) and is counted; the others go on. The model is not penalized.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.env import StepToolEnv
from steptool_env.errors import Unavailable
from steptool_env.formats import CallFormat, make_format
from steptool_env.types import Action, Malformed, Message, Observation, ToolCall, Unanswered

from ..servers.client import ChatClient, Failure
from ..servers.sampled import sampled_tokens
from ..trajectory import Generation
from ..trajectory.messages import LONGEST, as_tool_calls, earlier_call, read_tool_call

__all__ = ["ChatCompletionsPolicy"]

_REFUSED = ("http 401", "http 403", "http 404")
"""A wrong key, address or name of the model."""


class ChatCompletionsPolicy:
    """Requests the actions of all episodes from a chat endpoint at the same time.

    Args:
        client: The endpoint.
        model: Name of the model there.
        call_format: A call format, by name or as an object; None takes the server's native tool calls.
        temperature: Of sampling; 0 takes the most likely token.
        max_tokens: Longest action, in tokens.
        logprobs: Ask for log-probabilities and token ids (``logprobs``, and vLLM's ``return_token_ids``).
        extra: More fields of every request.

    Raises (``act``):
        Unavailable: The endpoint has refused every request from the first one on (HTTP 401, 403 or 404): a setting is wrong.
    """

    def __init__(
        self,
        client: ChatClient,
        model: str,
        *,
        call_format: str | CallFormat | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
        logprobs: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.client, self.model = client, model
        self.call_format = make_format(call_format) if isinstance(call_format, str) else call_format
        self.settings: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": max_tokens, **(extra or {})}
        if logprobs:
            self.settings |= {"logprobs": True, "return_token_ids": True}
        self.unanswered = 0
        """Episodes cut short because the server did not answer."""
        self._requests_sent = 0
        self._answered = False

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return one generation per observation; see ``Policy``."""
        requests = []
        for observation in observations:
            self._requests_sent += 1  # a sampled answer is not taken from the cache a second time
            requests.append((self._request(observation), self._requests_sent if self.settings["temperature"] else 0))
        answers = self.client.ask_all(requests, lambda _, message: self._generation(message))
        failed = [answer for answer in answers if isinstance(answer, Failure)]
        self._answered |= len(failed) < len(answers)
        if not self._answered and all(answer.kind in _REFUSED for answer in failed):
            raise Unavailable(f"the model server refused all of the first {len(failed)} requests: {failed[0]}")
        self.unanswered += len(failed)
        return [_unanswered(answer) if isinstance(answer, Failure) else answer for answer in answers]

    def _request(self, observation: Observation) -> dict[str, Any]:
        schemas, messages = json.loads(observation["tools"]), observation["messages"]
        if self.call_format is None:
            return {**self.settings, "messages": as_tool_calls(messages), "tools": schemas}
        chat = [{"role": "system", "content": self.call_format.instructions(schemas)}, *(self._turn(message) for message in messages)]
        return {**self.settings, "messages": chat, "stop": list(self.call_format.stop)[:4]}

    def _turn(self, message: Message) -> dict[str, str]:
        assert self.call_format is not None
        if message.role == "tool":
            return {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
        call = earlier_call(message) if message.role == "assistant" else None
        return {"role": message.role, "content": message.content if call is None else self.call_format.render(call)}

    def _generation(self, message: Mapping[str, Any]) -> Generation:
        text = message.get("content") or ""
        if not isinstance(text, str):
            raise ValueError(f"the content must be a text, got {text!r:.80}")
        if len(text) > LONGEST:  # before anything looks at it
            return Generation(text[:2000], Malformed(text[:2000], f"the answer is longer than {LONGEST} characters"))
        action = read_tool_call(message) if self.call_format is None else self._parse(text)
        ids, logprobs = served_tokens(message, self.settings["max_tokens"]) if self.settings.get("logprobs") else ((), ())
        if isinstance(action, ToolCall) and self.call_format is None:
            text = action.as_json()
        return Generation(text, action, (), ids, logprobs)

    def _parse(self, text: str) -> Action:
        assert self.call_format is not None
        action = self.call_format.parse(text)
        for end in self.call_format.stop if isinstance(action, Malformed) else ():
            if isinstance(completed := self.call_format.parse(text + end), ToolCall):  # servers leave the stop text out
                return completed
        return action


def _unanswered(failure: Failure) -> Generation:
    return Generation("", Unanswered("", f"the model server did not answer: {failure}"))


def served_tokens(message: Mapping[str, Any], max_tokens: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return token ids and log-probabilities where the server sent both, one for each token; else nothing.

    Raises:
        ValueError: They cannot have been sampled: see ``sampled_tokens``.
    """
    ids, logprobs = message.get("token_ids"), message.get("logprobs")
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(ids, list) or not isinstance(entries, list) or len(ids) != len(entries):
        return (), ()
    checked = sampled_tokens(ids, [entry["logprob"] if isinstance(entry, dict) else entry for entry in entries], max_tokens)
    return tuple(checked[0]), tuple(checked[1])
