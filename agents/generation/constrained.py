"""Grammar-constrained decoding: only valid calls of the tools on offer can be written. Needs the extra ``constrained``.

The grammar comes from the call format and the tools' JSON schemas; ``llguidance`` says at every token which ones may follow.
The log-probabilities that are recorded stay those of the policy itself, over all tokens: training never sees the grammar.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steptool_env.errors import NotSupported, missing_extra
from steptool_env.formats import CallFormat
from steptool_env.types import ToolCall

__all__ = ["Guides", "grammar"]

_PROBE = "steptool_probe"
_EXACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""JSON as ``json.dumps`` writes it: a model that is free to choose whitespace may write nothing but whitespace."""


def grammar(call_format: CallFormat, schemas: Sequence[dict[str, Any]], stop: str = "") -> str:
    """Return the grammar of one call in the notation of llguidance (Lark, with JSON schemas).

    Args:
        call_format: How calls are written; the arguments must be a JSON object.
        schemas: The function schemas of the tools on offer.
        stop: What must follow the call, where the call does not end with it.

    Raises:
        NotSupported: The format writes arguments in another way.
    """
    text = call_format.render(ToolCall(_PROBE, {}))
    start = text.find("{")
    try:
        whole, end = json.JSONDecoder().raw_decode(text, max(start, 0))
    except ValueError:
        whole, end = None, 0
    before, after = text[:start], text[end:] + stop
    tools = [(schema.get("function", schema)["name"], schema.get("function", schema).get("parameters") or {"type": "object"}) for schema in schemas]
    if whole == {} and before.count(_PROBE) == 1:  # the name stands before the arguments
        calls = [f"{_literal(before.replace(_PROBE, name))} %json {_schema(parameters)} {_literal(after)}" for name, parameters in tools]
        return "start: " + "\n     | ".join(calls) + "\n"
    if isinstance(whole, dict) and len(whole) == 2 and next(iter(whole)) == "name" and whole["name"] == _PROBE and {} in whole.values():
        key = list(whole)[1]
        calls = []
        for name, parameters in tools:
            both = {"name": {"const": name}, key: parameters}
            calls.append(f"%json {_schema({'type': 'object', 'properties': both, 'required': list(both), 'additionalProperties': False})}")
        return f"start: {_literal(before)} call {_literal(after)}\ncall: " + "\n    | ".join(calls) + "\n"
    raise NotSupported(f"format {call_format.name!r} does not write a call as a JSON object, so it cannot be constrained; hermes, llama3, mistral, react can")


def _literal(text: str) -> str:
    return json.dumps(text) if text else '""'


def _schema(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, **_EXACT})


class Guides:
    """Makes and follows grammars for the sequences of an ``Engine``.

    Args:
        tokenizer: The model's.
        call_format: How calls are written.
        vocabulary: V, the number of logits.
        eos: Tokens that end a turn: allowed where the grammar is complete.

    Raises:
        MissingExtra: ``llguidance`` is not installed.
        NotSupported: The format cannot be constrained.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, *, vocabulary: int, eos: set[int]) -> None:
        try:
            import llguidance
            import llguidance.hf
        except ImportError as fault:
            raise missing_extra("constrained decoding", fault, "constrained") from fault
        self._matcher = llguidance.LLMatcher
        self.call_format, self.vocabulary = call_format, vocabulary
        known = set(tokenizer.get_vocab())
        special = [int(tokenizer.convert_tokens_to_ids(text)) for text in call_format.stop if text in known]  # type: ignore[arg-type]  # one text, one id
        fast: Any = tokenizer
        self._tokens = llguidance.hf.from_tokenizer(fast, n_vocab=vocabulary, eos_token=sorted(eos | set(special)))
        text = call_format.render(ToolCall(_PROBE, {}))
        # A stop text that is not a token, and that the call does not end with, must be written out.
        self._stop = "" if special or text.endswith(tuple(call_format.stop)) else call_format.stop[0]
        self._matchers: dict[str, Any] = {}
        grammar(call_format, [])  # raises here for formats that cannot be constrained

    def start(self, tools: str) -> Any:
        """Return a guide for one action.

        Args:
            tools: JSON list of the function schemas on offer.

        Raises:
            NotSupported: A schema uses a keyword that llguidance does not know.
        """
        if tools not in self._matchers:
            matcher = self._matcher(self._tokens, grammar(self.call_format, json.loads(tools), self._stop))
            if matcher.is_error():
                raise NotSupported(f"the schemas of these tools cannot be constrained: {matcher.get_error()}")
            if len(self._matchers) >= 256:
                self._matchers.clear()
            self._matchers[tools] = matcher
        return self._matchers[tools].deep_copy()

    def mask(self, logprobs: Tensor, guides: Sequence[Any]) -> Tensor:
        """Return the log-probabilities (n, V), -inf where the guide of a row rules a token out."""
        packed = np.frombuffer(b"".join(guide.compute_bitmask() for guide in guides), dtype=np.uint8).reshape(len(guides), -1)
        allowed = np.unpackbits(packed, axis=1, count=self.vocabulary, bitorder="little").astype(bool)
        return logprobs.masked_fill(~torch.from_numpy(allowed).to(logprobs.device), -torch.inf)

    def accept(self, guides: Sequence[Any], tokens: Sequence[int]) -> None:
        """Tell each guide which token was chosen."""
        for guide, token in zip(guides, tokens, strict=True):
            guide.consume_token(token)
