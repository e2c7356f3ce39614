"""Makes the embedded model ``tiny``: a tokenizer, and weights that can read JSON records and make a single tool call.

    python -m steptool_agents.tiny_pretraining --steps 3000

What every pretrained language model brings along, copying and looking up, takes a model of a million parameters longer to
learn from scratch than a demonstration should take. So ``tiny`` is pretrained on random records with questions about their
fields, and on episodes of one or two calls; nothing that takes three. The result, the folder
``tiny/`` beside this file, is a ``transformers`` model like any other. Run it again when the vocabulary of the worlds has changed much.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from steptool_env.env import StepToolEnv
from steptool_env.formats import make_format
from steptool_env.tasks.worlds import Worlds
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.generate import NAMES

from .prompts import PlainPrompts

__all__ = ["FOLDER", "build_tokenizer", "new_model", "pretrain"]

FOLDER = Path(__file__).parent / "tiny"

_PIECES = r'\{"name": "|", "arguments": \{"|"\}\}|": "?|"?, "|\{"|"?\}| of the | of | the | and |\d{1,2}|[A-Za-z_]+|[^\sA-Za-z\d_]+|\s'
"""Glue of JSON calls and of English, pairs of digits, words, the rest: no merge crosses these borders. So a word is the
same token in an instruction and as a key of a result, and all ids share their number tokens."""

_SPECIAL = ("<pad>", "<end>")
_TAGS = ("<tool_call>", "</tool_call>")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer whose merges are learnt from generated ``worlds`` episodes.

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
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in _TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=_SPECIAL[0], eos_token=_SPECIAL[1])


def _corpus() -> list[str]:
    hermes = make_format("hermes")
    texts = [" ".join(f"{number:02d}" for number in range(100)), "Tools: Task: Error: true false null What is the "] * 20
    env = StepToolEnv(Worlds(level=3, depth=(1, 6)))
    for index in range(600):
        observation, _ = env.reset(options={"task": index})
        texts.append(observation["messages"][0].content)
        texts += [" ".join(schema["function"]["name"] for schema in json.loads(observation["tools"]))]
        for call in env.solution():
            texts.append(hermes.render(call).removeprefix(_TAGS[0]).removesuffix(_TAGS[1]))
            texts.append(env.step(call)[0]["messages"][-1].content)
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
    config.steptool_prompt = "terse"  # how prompts are written for this model, see prompts.py; saved with the config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(config)


def pretrain(steps: int, batch: int, seed: int = 0, folder: Path = FOLDER, on_step: Callable[[int, float], None] | None = None) -> float:
    """Pretrain the model and save it with its tokenizer; return the loss of the last hundred steps, in nats per token."""
    tokenizer = build_tokenizer()
    model: Any = new_model(len(tokenizer), seed)
    rng = random.Random(seed)
    prompts = PlainPrompts(tokenizer, make_format("hermes"), terse=True)
    first = 1_000_000  # far beyond the tasks that anybody trains or tests on
    single = StepToolEnv(Worlds(level=2, depth=(1, 1), families=("lookup",), size=first + steps * batch))
    double = StepToolEnv(Worlds(level=2, depth=(1, 2), size=first + steps * batch))
    named = dict(model.named_parameters())
    matrices = [parameter for name, parameter in named.items() if parameter.ndim == 2 and ".layers." in name]
    rest = [parameter for name, parameter in named.items() if not (parameter.ndim == 2 and ".layers." in name)]
    optimizers = [torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0), torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0)]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    losses: list[float] = []
    with Progress() as progress:
        bar = progress.add_task("pretraining", total=steps)
        for step in range(steps):
            # From records of two fields to records of four: looking up is learnt on the short ones.
            fields = 2 + min(2, 5 * step // steps)
            # First single lookups, then also what takes two calls.
            env, share = (single, batch // 2) if step < 0.5 * steps else (double, batch // 4)
            records = [_document(rng, tokenizer, fields) for _ in range(share)]
            ids, answer = _batch([*records, *(_episode(env, prompts, first + step * batch + number) for number in range(batch - share))])
            scale = min(1.0, (step + 1) / 50) * (0.52 + 0.48 * math.cos(math.pi * step / steps))
            for group, peak in zip((group for optimizer in optimizers for group in optimizer.param_groups), peaks, strict=True):
                group["lr"] = peak * scale
            hidden = model.get_decoder()(input_ids=ids).last_hidden_state[:, :-1]
            loss = torch.nn.functional.cross_entropy(model.get_output_embeddings()(hidden[answer[:, 1:]]), ids[:, 1:][answer[:, 1:]])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            losses.append(float(loss.detach()))
            recent = sum(losses[-100:]) / len(losses[-100:])
            progress.update(bar, advance=1, description=f"pretraining, loss {recent:.3f}")
            if on_step is not None:
                on_step(step, losses[-1])
    model.to(dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return recent


_WORDS = sorted({word for domain in DOMAINS.values() for name, entity in domain.entities.items() for word in (name, *entity.attributes, *entity.relations)})


def _value(rng: random.Random) -> str | int:
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(NAMES)
    if kind < 0.65:
        return rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + str(rng.randint(10, 99))
    return str(rng.randint(1000, 9999)) if kind < 0.85 else rng.randint(100, 9999)


def _document(rng: random.Random, tokenizer: PreTrainedTokenizerFast, fields: int) -> tuple[list[int], list[bool]]:
    """Return token ids and which of them are answers: a record of 2 to ``fields`` random fields, and questions about it."""
    ids: list[int] = []
    answer: list[bool] = []

    def write(text: str, *, learn: bool = False) -> None:
        tokens = tokenizer.encode(text, add_special_tokens=False)
        ids.extend(tokens)
        answer.extend([learn] * len(tokens))

    keys = rng.sample(_WORDS, rng.randint(2, fields))
    record = {key: _value(rng) for key in keys}
    write(json.dumps(record) + "\n")
    for key in rng.sample(keys, len(keys)):
        end = "\n"
        form = rng.randrange(4)
        if form == 0:
            write(f"{key}: ")
        elif form == 1:
            write(f'{{"{key}": "')
            end = '"}\n'
        elif form == 2:
            write(f"What is the {key}? ")
        else:
            write(f"the {key} of the {' of the '.join(rng.sample(_WORDS, rng.randint(1, 2)))}: ")
        write(f"{record[key]}", learn=True)
        write(end)
    return ids, answer


def _episode(env: StepToolEnv, prompts: PlainPrompts, task: int) -> tuple[list[int], list[bool]]:
    """Return token ids of an oracle episode and which of them are its calls."""
    observation, _ = env.reset(options={"task": task})
    ids: list[int] = []
    answer: list[bool] = []
    context = prompts.prompt(observation)
    for call in env.solution():
        tokens = prompts.tokenizer.encode(prompts.call_format.render(call), add_special_tokens=False)
        answer += [False] * len(context) + [True] * len(tokens)
        ids += [*context, *tokens]
        observation, *_ = env.step(call)
        context = prompts.extend(observation["messages"][-1:], "", ended=False)
    return ids, answer


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
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves its default")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"loss {pretrain(arguments.steps, arguments.batch, folder=arguments.folder):.3f} nats per answer token, saved in {arguments.folder}")
