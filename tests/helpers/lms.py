"""Small language models, episodes without an environment, and hand-made trajectories, for tests of the agents."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from steptool_agents.config import Config
from steptool_agents.learning.passes import Passes
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import TINY, load_model
from steptool_agents.policies.local import LMPolicy
from steptool_agents.trajectory import Generation, Step, Trajectory
from steptool_env.types import Malformed, Message, Observation, Outcome, Task, ToolCall, ToolResult, Transition

torch.set_num_threads(1)

KINDS = ("tiny", "llama", "gpt2")
WORDS = "The order of Ann is A17 and the product 4711 was sent to Berlin by the clerk of room 12".split()

TOOLS = '[{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}}]'


@functools.cache
def vocabulary() -> int:
    return len(tokenizer())


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(TINY)


def language_model(kind: str = "llama", *, context: int = 2048, seed: int = 0, **options: Any) -> LanguageModel:
    """Return a model with random weights (but for ``tiny``) and a value head that says something."""
    torch.manual_seed(seed)
    model: Any
    if kind == "tiny":
        lm = load_model("tiny", **options)
    else:
        if kind == "llama":
            sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
            model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary(), **sizes, max_position_embeddings=context, initializer_range=0.2, **options))
        else:  # learnt positions: a table that ends
            model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary(), n_embd=32, n_layer=2, n_head=4, n_positions=context, initializer_range=0.2, **options))
        model.config.steptool_prompt, model.config.eos_token_id = "terse", 1
        lm = LanguageModel(model, tokenizer())
    lm.eval()
    torch.nn.init.normal_(lm.value_head.value.weight)
    return lm


def passes(lm: LanguageModel, config: Config | None = None) -> Passes:
    """Return what a run with these settings makes of a model to learn with it."""
    config = config or Config()
    return Passes(lm, token_budget=config.model.token_budget, temperature=config.rollout.temperature, max_grad_norm=config.learning.max_grad_norm)


class Conversation:
    """An episode without an environment: the test says what comes back."""

    def __init__(self, task: str, tools: str = TOOLS) -> None:
        self.messages: tuple[Message, ...] = (Message("user", task),)
        self.tools = tools
        self.generations: list[Generation] = []

    def answer(self, text: str, role: str = "tool") -> None:
        self.messages = (*self.messages, Message("assistant", self.generations[-1].text), Message(role, text))

    @property
    def observation(self) -> Observation:
        return {"messages": self.messages, "tools": self.tools}

    @property
    def ids(self) -> list[int]:
        return [token for one in self.generations for token in (*one.prompt_ids, *one.token_ids)]


def act(policy: LMPolicy, talks: Sequence[Conversation]) -> None:
    """Let every episode take a step."""
    for talk, generation in zip(talks, policy.act([talk.observation for talk in talks], talks), strict=True):  # type: ignore[arg-type]
        talk.generations.append(generation)


@torch.no_grad()
def from_scratch(lm: LanguageModel, ids: Sequence[int], temperature: float = 1.0, first: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities (L, V) and values (L,) of a whole sequence at once, from the plain model without any cache.

    ``first``: how many tokens the first observation has; None: all.
    """
    out = lm.model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    hidden = out.hidden_states[-1][0].float()  # (L, H)
    return torch.log_softmax(out.logits[0].float() / temperature, dim=-1), lm.value_head(hidden, hidden[:first].mean(0).expand_as(hidden))


def chatter(rng: random.Random, longest: int = 60) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))


def play(policy: LMPolicy, seed: int = 0) -> list[Conversation]:
    """Play episodes that join, end, pause and change places, with observations of very different lengths."""
    rng = random.Random(seed)
    everything: list[Conversation] = []
    running: list[Conversation] = []
    for _ in range(7):
        while len(running) < 4:
            running.append(Conversation(chatter(rng)))
            everything.append(running[-1])
        rng.shuffle(running)
        act(policy, running)
        for talk in running:
            talk.answer(chatter(rng))
        running = [talk for talk in running if rng.random() > 0.3]
    assert len(everything) > 6
    assert max(len(talk.generations) for talk in everything) > 2
    return everything


def check(lm: LanguageModel, talks: list[Conversation], temperature: float) -> None:
    """What was sampled has the log-probabilities and values that the plain model gives; at temperature 0 nothing was likelier."""
    for talk in talks:
        logprobs, values = from_scratch(lm, talk.ids, temperature or 1.0, len(talk.generations[0].prompt_ids))
        place = 0
        for one in talk.generations:
            place += len(one.prompt_ids)
            assert one.value == pytest.approx(values[place - 1].item(), abs=1e-4)
            for token, logprob in zip(one.token_ids, one.logprobs, strict=True):
                assert logprob == pytest.approx(logprobs[place - 1, token].item(), abs=1e-4)
                if temperature == 0:
                    assert logprobs[place - 1].max().item() == pytest.approx(logprob, abs=1e-4)
                place += 1


def trajectory(
    steps: Sequence[tuple[Sequence[int], Sequence[int]]],
    rewards: Sequence[float] | None = None,
    *,
    values: Sequence[float] | None = None,
    logprobs: Sequence[Sequence[float]] | None = None,
    masked_end: bool = False,
    task: str = "t",
) -> Trajectory:
    """Return a trajectory from (context tokens, action tokens) of each step."""
    made = []
    its = Task(task, "Do it.", ("look", "finish"), 9)
    for t, (context, action) in enumerate(steps):
        last = t == len(steps) - 1
        masked = last and masked_end
        call = ToolCall("look") if action else Malformed("", "no tokens")
        result = ToolResult("", "unavailable" if masked else "")
        outcome = Outcome(1.0) if last and not masked else None
        transition = Transition(its, t, call, result, last and not masked, masked, outcome)
        chosen = tuple(logprobs[t]) if logprobs is not None else (-1.0,) * len(action)
        generation = Generation("", call, tuple(context), tuple(action), chosen, values[t] if values is not None else 0.0)
        made.append(Step(generation, transition, {"all": rewards[t] if rewards is not None else 0.0}, masked))
    return Trajectory(tuple(made))


TALKS = [[(range(10, 30), (31, 32, 33)), (range(40, 45), (46,))], [((50,), (51, 52))], [(range(60, 67), (68, 69)), ((70, 71), (72, 73, 74)), ((75,), (76,))]]
"""Episodes: (context tokens, action tokens) of each step."""


def sampled(lm: LanguageModel, sequences: Any = TALKS, **options: Any) -> list[Trajectory]:
    """Return trajectories with the log-probabilities and values that the model gives them."""
    made = []
    for steps in sequences:
        ids = [token for context, action in steps for token in (*context, *action)]
        logprobs, values = from_scratch(lm, ids, first=len(steps[0][0]))
        place, said, state = 0, [], []
        for context, action in steps:
            place += len(context)
            state.append(values[place - 1].item())
            said.append([logprobs[place - 1 + k, token].item() for k, token in enumerate(action)])
            place += len(action)
        rewards = [0.3 * k - 0.2 * len(context) / 10 for k, (context, _) in enumerate(steps)]
        made.append(trajectory(steps, rewards, values=state, logprobs=said, **options))
    return made
