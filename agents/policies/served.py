"""``ServedPolicy``: a policy that samples on model servers and is trained here, token for token.

Observations are rendered and tokenized here, once, as in ``LMPolicy``. A request holds the ids of the whole episode and goes to
``/v1/completions``; the answer holds the sampled ids and their log-probabilities. The server caches the keys and values of earlier
requests, and an episode stays with its server. Every ``forget`` hands the weights over.

It is made for vLLM, which needs ``--logprobs-mode processed_logprobs`` if the temperature is not 1, because the policy is the softmax
at that temperature. Servers have no value head: ``Generation.value`` is 0 until the learner has read the episode (``learning/reread.py``).

A server that does not answer, or answers what no model can have sampled (``servers.sampled``), gets no more requests until it has taken new
weights; its episodes go on with another one. If none is left, they end with a masked step (``Unanswered``), and the model is not penalized.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

from steptool_env.env import StepToolEnv
from steptool_env.errors import NotSupported
from steptool_env.formats import CallFormat
from steptool_env.types import Malformed, Observation, Unanswered

from ..chat.prompts import AUTO, make_chat
from ..chat.reading import Reading, end_tokens
from ..generation.reasoning import ReasoningBudget
from ..generation.stop_texts import StopTexts
from ..models.language_model import LanguageModel
from ..parallel import processes
from ..servers.client import ChatClient, Failure
from ..servers.sampled import NO_TOKEN_IDS, sampled
from ..servers.weights import HandOver
from ..trajectory import Generation
from .tokens import next_seed
from .transcripts import Transcripts

__all__ = ["ServedPolicy"]

REFUSED = ("http 400", "http 413", "http 422")
"""Kinds of failures that are the request's, such as a text that is too long for the server: another one would say the same."""
THREADS = 4096
"""Most requests at a time, on all servers; each server's client has its own limit."""


@dataclass(slots=True)
class _Episode:
    """What requests about one running episode need."""

    server: ChatClient
    seed: int
    ids: list[int]
    """All tokens so far, actions included."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server has written."""

    ids: list[int]
    logprobs: list[float]
    forced: tuple[int, int] = (0, 0)
    """See ``Generation.forced``."""


class ServedPolicy:
    """Acts as ``LMPolicy`` does, on servers.

    Args:
        lm: The model that is trained; only its tokenizer, its configuration and its weights are used.
        handover: Hands its weights over to the servers.
        call_format: How it writes calls, see ``make_chat``.
        temperature: Of sampling; 0 takes the most likely token.
        max_new_tokens: Longest action, in tokens.
        seed: Seeds the sampling, as far as servers respect seeds.
        update: Number of the first update whose weights are handed over.
        chat_template_options: Keywords of the chat template.
        max_reasoning_tokens: Where reasoning ends that the model has not ended itself, which costs a second request; None: anywhere.
    """

    def __init__(
        self,
        lm: LanguageModel,
        handover: HandOver,
        call_format: str | CallFormat = AUTO,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        seed: int = 0,
        update: int = 0,
        chat_template_options: Mapping[str, Any] | None = None,
        max_reasoning_tokens: int | None = None,
    ) -> None:
        self.lm, self.handover = lm, handover
        ends = end_tokens(lm.config, lm.tokenizer)
        style = getattr(lm.config, "steptool_prompt", None)
        self.prompts, self.call_format, reads = make_chat(lm.tokenizer, call_format, style=style, options=chat_template_options, ends=ends)
        self.temperature, self.max_new_tokens, self.update = temperature, max_new_tokens, update
        self.generator = torch.Generator().manual_seed(seed)
        """Draws one seed per episode, in the order in which they begin."""
        self.seeds: deque[int] = deque()
        self.profiler = lm.profiler
        self.unanswered = 0
        """Episodes cut short because no server answered, or not what can have been sampled."""
        self.moved = 0
        """How often an episode went on with another server, because its own did not answer."""
        self._counted = (0, 0, 0)
        self._lock = threading.Lock()
        self._answered = False
        self.reading = Reading(lm.tokenizer, reads, ends, self.prompts.opening)
        self._stop = StopTexts(lm.tokenizer, self.call_format.stop, ends, self.reading.text)
        self._budget = ReasoningBudget.of(max_reasoning_tokens, max_new_tokens, self.reading)
        self._transcripts = Transcripts(self.prompts, lm.context - max_new_tokens, lm.name)
        self._model, self._live = "", list[ChatClient]()
        self._dead: set[ChatClient] = set()
        self._episodes: dict[int, _Episode] = {}
        self._envs: dict[int, StepToolEnv] = {}
        self._pending: dict[Future[Any], int] = {}
        self._ready: list[tuple[int, Generation]] = []
        self._turn = 0
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="steptool-served")

    def forget(self) -> None:
        """Drop all running episodes and hand the model's weights over; needed whenever the weights have changed.

        All processes of a run must call it.

        Raises:
            Unavailable: No server took the weights.
        """
        for future in self._pending:
            future.cancel()
        wait(self._pending)
        self._pending.clear()
        self._transcripts.clear()
        self._episodes.clear()
        self._envs.clear()
        self._ready.clear()
        self.seeds.clear()
        self._model, self._live = self.handover(self.lm, self.update, self._dead)
        self._dead = set()
        self.update += 1

    def close(self) -> None:
        """Ask for nothing more; a rollout that is under way in another thread ends with an exception."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def counts(self) -> dict[str, float]:
        """Return what happened to the servers since the last call: how many play, how often one did not take the weights, episodes that went
        on with another one, and episodes that none answered; all processes call it together, and get the same."""
        failed, moved, unanswered = self.handover.failed, self.moved, self.unanswered
        before, self._counted = self._counted, (failed, moved, unanswered)
        own = {"servers/moved": float(moved - before[1]), "servers/unanswered": float(unanswered - before[2])}
        playing, missed = processes.tell((float(len(self._live)), float(failed - before[0])))
        return {"servers/playing": playing, "servers/failed": missed, **processes.add_numbers(own)}

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Sample one action per observation; see ``Policy``.

        Raises:
            NotSupported: The first answer of all holds no token ids: the server, or how it was started, is a wrong setting.
        """
        for observation, env in zip(observations, envs, strict=True):
            self.submit(observation, env)
        generations: dict[int, Generation] = {}
        while len(generations) < len(envs):
            generations.update((id(env), generation) for env, generation in self.poll())
        return [generations[id(env)] for env in envs]

    def submit(self, observation: Observation, env: StepToolEnv) -> None:
        """Request an action; ``poll`` returns it."""
        if not self._model:
            self.forget()
        key = id(env)
        with self.profiler("encode"):
            transcript = self._transcripts.read(key, observation)
        if transcript.new:
            self._episodes[key] = _Episode(self._server(), next_seed(self), [])
        episode = self._episodes[key]
        episode.ids += transcript.context
        self._envs[key] = env
        if transcript.full:
            self._ready.append((key, Generation("", Malformed("", f"the context window of {self.lm.context} tokens is full"))))
        else:
            self._pending[self._pool.submit(self._complete, episode, self._request(episode))] = key

    def poll(self) -> list[tuple[StepToolEnv, Generation]]:
        """Wait until at least one action is complete, and return those that are."""
        if not self._ready and self._pending:
            with self.profiler("generate"):
                done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
                for future in done:
                    key = self._pending.pop(future)
                    self._ready.append((key, self._generation(key, future.result())))
        ready, self._ready = self._ready, []
        return [(self._envs[key], generation) for key, generation in ready]

    def leave(self, env: StepToolEnv) -> None:
        """Forget an episode."""
        self._transcripts.drop(id(env))
        self._episodes.pop(id(env), None)
        self._envs.pop(id(env), None)

    # ---------------------------------------------------------------- parts
    def _server(self) -> ChatClient:
        """Return the next server in turn; if none is left, one that is known to be dead."""
        with self._lock:
            self._turn += 1
            servers = [server for server in self._live if server not in self._dead] or self._live
            return servers[self._turn % len(servers)]

    def _request(self, episode: _Episode) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": episode.ids,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": episode.seed + len(episode.ids),
            "logprobs": 0,  # only of the sampled token
            "return_token_ids": True,
            "stop": list(self.call_format.stop),
            "stop_token_ids": sorted(self.reading.ends),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            # The generation settings in a model's folder may differ, and would sample from another policy than the one that is trained.
            "top_p": 1.0,
            "top_k": -1,
            "repetition_penalty": 1.0,
        }

    def _complete(self, episode: _Episode, request: Mapping[str, Any]) -> _Answer | Failure:
        """Return an action, whose reasoning ends within its budget; runs in a thread."""
        if self._budget is None:
            return self._ask(episode, request)
        begun = self._ask(episode, {**request, "max_tokens": self._budget.most})
        if isinstance(begun, Failure) or len(begun.ids) < self._budget.most or self._stop(begun.ids):
            return begun
        closing = self._budget(begun.ids)
        start, left = [*begun.ids, *closing], self.max_new_tokens - len(begun.ids) - len(closing)
        forced = (len(begun.ids), len(start)) if closing else (0, 0)
        if left < 1:
            start, forced = start[: self.max_new_tokens], (forced[0], min(forced[1], self.max_new_tokens))
            return _Answer(start, begun.logprobs + [0.0] * (len(start) - len(begun.ids)), forced)
        rest = self._ask(episode, {**request, "prompt": request["prompt"] + start, "max_tokens": left, "seed": request["seed"] + len(start)})
        if isinstance(rest, Failure):
            return rest
        return _Answer(start + rest.ids, begun.logprobs + [0.0] * len(closing) + rest.logprobs, forced)

    def _ask(self, episode: _Episode, request: Mapping[str, Any]) -> _Answer | Failure:
        """Ask the episode's server, and others in turn if it does not answer."""
        answer = Failure("given up", f"{episode.server!r} did not answer before")
        while True:
            if episode.server in self._dead:
                if (other := self._server()) in self._dead:
                    return answer
                episode.server = other
                with self._lock:
                    self.moved += 1
            asked = episode.server.post("/v1/completions", request, lambda content: sampled(content, request["max_tokens"], self.lm.vocabulary))
            if not isinstance(asked, Failure):
                return _Answer(*asked)
            if asked.kind in REFUSED or (asked.kind == NO_TOKEN_IDS and not self._answered):
                return asked
            answer = asked
            self._dead.add(episode.server)

    def _generation(self, key: int, found: _Answer | Failure) -> Generation:
        transcript = self._transcripts[key]
        context = tuple(transcript.context)
        if isinstance(found, Failure):
            if found.kind == NO_TOKEN_IDS and not self._answered:  # a wrong server, or one that must be started otherwise
                raise NotSupported(str(found))
            self.unanswered += 1
            return Generation("", Unanswered("", f"the model server did not answer: {found}"), context)
        self._answered = True
        ids = found.ids
        answer = self.reading.answer(ids, transcript.tools)
        transcript.record(ids, ended=answer.ended)
        self._episodes[key].ids += ids
        self.profiler.count("generate", len(context) + len(ids))
        return Generation(answer.text, answer.action, context, tuple(ids), tuple(found.logprobs), reasoning=answer.reasoning, forced=found.forced)
