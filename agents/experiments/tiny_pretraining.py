"""Makes the embedded model ``tiny``: a tokenizer, and weights that can look things up.

    python -m steptool_agents.experiments.tiny_pretraining

Every pretrained language model can copy and follow a pattern. A model of a million parameters takes longer to learn that from
scratch than a demonstration should take. So ``tiny`` is pretrained on episodes of ``worlds`` that follow a
chain of lookups, each of which returns a single field, with mistakes to recover from. It never sees anything being changed.
The result, the folder ``models/tiny/``, is a ``transformers`` model like any other. Run it again when the
vocabulary of the worlds has changed much; it takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from steptool_env.env import StepToolEnv
from steptool_env.formats import make_format
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import Malformed, ToolCall

from ..chat.plain import PlainPrompts
from ..models.loading import TINY
from ..policies.mistakes import draw_mistake

__all__ = ["TASKS", "build_tokenizer", "look_back", "new_model", "pretrain"]

_PIECES = (
    r'<tool_call>\{"name": "|", "arguments": \{"[A-Za-z_]+": "?|", "field": "|"?\}\}</tool_call>|\nTask: |Tools: |\n?\{"|": "?|"?, "|"?\}\n?'
    r"| of the | of | the | and |\d{1,2}|[A-Za-z_]+|[^\sA-Za-z\d_]+|\s"
)
"""Glue of JSON calls and of English, pairs of digits, words, the rest: no merge crosses these borders. So a word is the
same token in an instruction and as a key of a result, all ids share their number tokens, and a call takes six to eight tokens."""

MISTAKES = 0.2
"""Share of steps of an episode with a mistake: a model that has never seen an error message is lost after its first one."""

TASKS: dict[str, Any] = {"domains": ("shop", "travel", "clinic"), "families": ("lookup", "change"), "lookalikes": 0}
"""The part of ``worlds`` whose words and tools the model knows."""

_SPECIAL = ("<pad>", "<end>")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer whose merges are learned from generated ``worlds`` episodes.

    Any text can be encoded; what the tools of the worlds say takes few tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536, min_frequency=2, special_tokens=list(_SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=_SPECIAL[0], eos_token=_SPECIAL[1])
    # For other trainers: the terse form as a chat template, and how to find the calls in an answer.
    embedded = PreTrainedTokenizerFast.from_pretrained(TINY)
    made.chat_template, made.response_template = embedded.chat_template, embedded.response_template
    return made


def _corpus() -> list[str]:
    hermes = make_format("hermes")
    texts = [" ".join(f"{number:02d}" for number in range(100)), "true false null", "I cannot do that."] * 20
    envs = [StepToolEnv(Worlds(level=3, depth=(1, 6), replies=replies, **TASKS)) for replies in ("record", "field")]
    for index in range(800):
        env = envs[index % 2]
        observation, _ = env.reset(options={"task": index})
        names = [schema["function"]["name"] for schema in json.loads(observation["tools"])]
        texts.append(f"Tools: {' '.join(names)}\nTask: {observation['messages'][0].content}\n")
        calls: list[ToolCall | Malformed] = list(env.solution())
        mistakes = [ToolCall(names[0], {"x": "1"}), ToolCall("get_unknown"), hermes.parse("?"), ToolCall(names[0], {f"{names[0][4:]}_id": "A11"})]
        for call in [mistakes[index // 2 % 4], *calls]:
            texts.append(hermes.render(call) if isinstance(call, ToolCall) else "")
            texts.append(f"\n{env.step(call)[0]['messages'][-1].content}\n")
    return texts


def new_model(vocabulary: int, seed: int) -> GPTNeoXForCausalLM:
    """Return the architecture of ``tiny`` with random weights.

    Half of each head is rotated by position, half is not: the one finds the token before, the other the same word again.
    """
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.5},
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    config.steptool_prompt = "terse"  # how prompts are written for this model, see ``chat/prompts.py``; saved with the config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = GPTNeoXForCausalLM(config)
    look_back(model.gpt_neox.layers[0].attention.query_key_value.bias, config)
    return model  # type: ignore[no-any-return]


@torch.no_grad()
def look_back(bias: torch.Tensor, config: GPTNeoXConfig, heads: int = 4, strength: float = 7.0) -> None:
    """Make head j of a layer look at the token j + 1 places back, whatever the tokens are.

    Copying and looking up begin with knowing which token came before. Training finds such heads by itself, but late, and
    everything else waits for them. With constant query q and key k, the score of a rotary head depends on the distance Δ alone:

        q·R(Δθ)k = s²·Σ_f cos((Δ - δ)·θ_f)    for  q_f = s·(cos δθ_f, -sin δθ_f),  k_f = s·(1, 0)

    which is largest at Δ = δ. The three fastest frequencies are enough to make the peak sharp.

    Args:
        bias: (3·H,) of the projection to queries, keys and values; changed in place.
        config: The model's.
        heads: How many heads, with δ = 1, 2, …
        strength: s.
    """
    size = config.hidden_size // config.num_attention_heads
    rope: Any = config.rope_parameters
    rotary = int(size * rope["partial_rotary_factor"])
    parts = bias.view(config.num_attention_heads, 3, size)  # per head: query, key, value
    for frequency in range(min(3, rotary // 2)):
        theta = rope["rope_theta"] ** (-2 * frequency / rotary)
        for head in range(heads):
            delta = head + 1
            parts[head, 0, frequency] = strength * math.cos(delta * theta)
            parts[head, 0, frequency + rotary // 2] = -strength * math.sin(delta * theta)  # a pair is half the rotated part apart
            parts[head, 1, frequency] = strength


def pretrain(steps: int, batch: int, seed: int = 0, folder: Path = TINY, on_step: Callable[[int, float], None] | None = None) -> float:
    """Pretrain the model and save it with its tokenizer; return the loss of the last hundred steps, in nats per token.

    Args:
        steps: Optimizer steps.
        batch: Episodes per step.
        seed: Seeds weights and mistakes.
        folder: Where model and tokenizer are saved.
        on_step: Called with the number and the loss of every step.
    """
    tokenizer = build_tokenizer()
    model: Any = new_model(len(tokenizer), seed)
    rng = np.random.default_rng(seed)
    prompts = PlainPrompts(tokenizer, make_format("hermes"), terse=True)
    options = {**TASKS, "replies": "field", "families": ("lookup",)}
    first = 1_000_000  # far beyond the tasks that anybody trains or tests on
    envs = [StepToolEnv(Worlds(level=2, depth=(1, most), size=first + steps * batch, **options)) for most in (1, 2, 4)]
    named = dict(model.named_parameters())
    matrices = [parameter for name, parameter in named.items() if parameter.ndim == 2 and ".layers." in name]
    rest = [parameter for name, parameter in named.items() if not (parameter.ndim == 2 and ".layers." in name)]
    optimizers = [torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0), torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0)]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    losses: list[float] = []
    with Progress() as progress:
        bar = progress.add_task("pretraining", total=steps)
        for step in range(steps):
            env = envs[(step >= 0.15 * steps) + (step >= 0.35 * steps)]  # short chains first
            episodes = [_episode(env, prompts, first + step * batch + number, MISTAKES, rng) for number in range(batch)]
            scale = min(1.0, (step + 1) / 50) * (0.52 + 0.48 * math.cos(math.pi * step / steps))
            for group, peak in zip((group for optimizer in optimizers for group in optimizer.param_groups), peaks, strict=True):
                group["lr"] = peak * scale
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = 0.0
            total = sum(sum(learn) for _, learn in episodes)
            for part in _by_length(episodes):  # together, all would be padded to the longest episode
                ids, answer = _batch(part)
                hidden = model.get_decoder()(input_ids=ids).last_hidden_state[:, :-1]
                logits = model.get_output_embeddings()(hidden[answer[:, 1:]])
                share_of_loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][answer[:, 1:]], reduction="sum") / total
                share_of_loss.backward()
                loss += float(share_of_loss.detach())
            torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            losses.append(loss)
            recent = sum(losses[-100:]) / len(losses[-100:])
            progress.update(bar, advance=1, description=f"pretraining, loss {recent:.3f}")
            if on_step is not None:
                on_step(step, losses[-1])
    # Who samples without a call format stops at the tokens that end a call.
    ends = (token for text, token in tokenizer.get_vocab().items() if text.endswith("tool_call>") and not text.startswith("<"))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *sorted(ends)]
    model.to(dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return recent


def _episode(env: StepToolEnv, prompts: PlainPrompts, task: int, mistakes: float, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    """Return token ids of an oracle episode with some mistakes, and which of them are the oracle's calls."""
    observation, _ = env.reset(options={"task": task})
    ids: list[int] = []
    answer: list[bool] = []
    context = prompts.prompt(observation)
    while calls := env.solution():
        mistake = draw_mistake(env, prompts.call_format, rng) if rng.random() < mistakes else None
        text = prompts.call_format.render(calls[0]) if mistake is None else mistake
        tokens = prompts.tokenizer.encode(text, add_special_tokens=False)
        answer += [False] * len(context) + [mistake is None] * len(tokens)
        ids += [*context, *tokens]
        observation, *_ = env.step(prompts.call_format.parse(text))
        context = prompts.extend(observation["messages"][-2], observation["messages"][-1:], "", ended=False)
    return ids, answer


def _by_length(documents: list[tuple[list[int], list[bool]]]) -> list[list[tuple[list[int], list[bool]]]]:
    ordered = sorted(documents, key=lambda document: len(document[0]))
    third = -(-len(ordered) // 3)
    return [ordered[begin : begin + third] for begin in range(0, len(ordered), third)]


def _batch(documents: list[tuple[list[int], list[bool]]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in documents)
    ids = torch.zeros(len(documents), width, dtype=torch.long)
    answer = torch.zeros(len(documents), width, dtype=torch.bool)
    for row, (tokens, learn) in enumerate(documents):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        answer[row, : len(learn)] = torch.tensor(learn)
    return ids, answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves its default")
    parser.add_argument("--folder", type=Path, default=TINY)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    loss = pretrain(arguments.steps, arguments.batch, folder=arguments.folder)
    print(f"loss {loss:.3f} nats per answer token, saved in {arguments.folder}")
