"""Do other programs give the same greedy answers? Questions from episodes, who is asked, and where the answers part.

A question is what the model had read and written before an action, token for token; so an answer that differs does not change the next question.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from steptool_agents import ChatClient, Trajectory
from steptool_agents.servers.client import Failure
from steptool_agents.servers.sampled import sampled

__all__ = ["Answer", "Question", "Tally", "ask_server", "ask_transformers", "first_difference", "gaps", "plain", "questions", "read_with_transformers", "tally"]

Progress = Callable[[int, int], None]
"""Told after an answer: how many there are, and how many questions."""
TIE = 1e-3
"""Nats: candidates that are closer than float32 and bfloat16 add up differently."""


class Question(NamedTuple):
    """An action that was played here."""

    episode: int
    prompt: list[int]
    """All tokens before the action."""
    ids: list[int]
    """The action."""
    logprobs: list[float]
    """(L,) natural logarithms of the probabilities of its tokens."""


class Answer(NamedTuple):
    """What another program wrote instead."""

    ids: list[int]
    logprobs: list[float]


class Tally(NamedTuple):
    """How far the answers agree."""

    actions: tuple[int, int]
    """The same, of how many."""
    episodes: tuple[int, int]
    """In which all actions are the same, of how many."""
    tokens: tuple[int, int]
    """Before the first difference of each action, of how many."""
    furthest: float
    """Largest difference of two log-probabilities of the same token before the first difference, in nats."""
    parted: list[tuple[int, int, float | None]]
    """Of each action that differs: index of the question, place of the first token that differs, and by how many nats ours is the likelier one there."""

    @property
    def ties(self) -> int:
        """How many part where both tokens are equally likely."""
        return sum(gap is not None and abs(gap) < TIE for _, _, gap in self.parted)

    @property
    def median_gap(self) -> float | None:
        """Of the sizes of the gaps that are known."""
        known = [abs(gap) for _, _, gap in self.parted if gap is not None]
        return statistics.median(known) if known else None


def questions(trajectories: Iterable[Trajectory]) -> list[Question]:
    """Return a question for every action of which tokens were written."""
    found = []
    for episode, trajectory in enumerate(trajectories):
        before: list[int] = []
        for step in trajectory.steps:
            before += step.generation.prompt_ids
            ids = list(step.generation.token_ids)
            if ids:
                found.append(Question(episode, list(before), ids, list(step.generation.logprobs)))
            before += ids
    return found


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Return the place of the first token that differs; that of the end, if one goes on where the other ends; None if they are the same."""
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return place
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def tally(asked: Sequence[Question], answers: Sequence[Answer], nats: Sequence[float | None]) -> Tally:
    """Compare.

    Args:
        asked: The questions.
        answers: One for each.
        nats: From ``gaps``.
    """
    places = [first_difference(question.ids, answer.ids) for question, answer in zip(asked, answers, strict=True)]
    wrong = {question.episode for question, place in zip(asked, places, strict=True) if place is not None}
    same, furthest = 0, 0.0
    for question, answer, place in zip(asked, answers, places, strict=True):
        common = len(question.ids) if place is None else place
        same += common
        furthest = max([furthest, *(abs(a - b) for a, b in zip(question.logprobs[:common], answer.logprobs[:common], strict=False))])
    return Tally(
        (places.count(None), len(places)),
        (len({question.episode for question in asked} - wrong), len({question.episode for question in asked})),
        (same, sum(len(question.ids) for question in asked)),
        furthest,
        [(index, place, gap) for index, (place, gap) in enumerate(zip(places, nats, strict=True)) if place is not None],
    )


# ---------------------------------------------------------------- who is asked
def ask_server(
    endpoint: str, model: str, asked: Sequence[Question], *, limit: int, ends: Sequence[int], stops: Sequence[str], vocabulary: int, progress: Progress
) -> list[Answer]:
    """Ask a model server, some questions at a time.

    Raises:
        Failure: It did not answer, or not with tokens.
    """
    client = ChatClient(endpoint, timeout=600.0, concurrency=8)
    fixed = {"model": model, "max_tokens": limit, "temperature": 0.0, "logprobs": 0, "return_token_ids": True, "stop": list(stops)}
    fixed |= {"stop_token_ids": list(ends), "include_stop_str_in_output": True, "skip_special_tokens": False}
    fixed |= {"top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0}  # whatever the folder's generation settings say

    def ask(question: Question) -> Answer:
        said = client.post("/v1/completions", {**fixed, "prompt": question.prompt}, lambda content: sampled(content, limit, vocabulary))
        if isinstance(said, Failure):
            raise said
        return Answer(*said)

    answers = []
    with closing(client), ThreadPoolExecutor(8) as pool:
        for answer in pool.map(ask, asked):
            answers.append(answer)
            progress(len(answers), len(asked))
    return answers


def plain(folder: Path, dtype: str) -> tuple[Any, Any]:
    """Return the model of a folder and its tokenizer, as everybody loads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval(), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def read_with_transformers(folder: Path, asked: Sequence[Question], *, progress: Progress) -> tuple[list[Answer], list[float | None]]:
    """Ask plain transformers, in float32, which token is the likeliest at every place of every action: one pass an episode.

    As long as it is ours, that is what ``generate`` writes greedily; an answer ends with the first token that is not.

    Returns:
        The answers, and the gaps, see ``gaps``.
    """
    model, _ = plain(folder, "float32")
    answers, nats = list[Answer](), list[float | None]()
    for index, question in enumerate(asked):
        if not index or question.episode != asked[index - 1].episode:
            last = [one for one in asked if one.episode == question.episode][-1]
            logits = model(torch.tensor([last.prompt + last.ids])).logits[0]
        rows = torch.log_softmax(logits[len(question.prompt) - 1 : len(question.prompt) + len(question.ids) - 1].float(), -1)
        likeliest = rows.argmax(-1).tolist()
        place = first_difference(question.ids, likeliest)
        ids = likeliest if place is None else likeliest[: place + 1]
        answers.append(Answer(ids, [float(row[token]) for row, token in zip(rows, ids, strict=False)]))
        nats.append(None if place is None else float(rows[place, question.ids[place]] - rows[place, ids[place]]))
        progress(len(answers), len(asked))
    return answers, nats


@torch.inference_mode()
def ask_transformers(folder: Path, asked: Sequence[Question], *, limit: int, ends: Sequence[int], stops: Sequence[str], progress: Progress) -> list[Answer]:
    """Ask ``generate`` of transformers, one question at a time, in float32."""
    model, tokenizer = plain(folder, "float32")
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": limit, "eos_token_id": list(ends), "pad_token_id": ends[0]}
    options |= {"stop_strings": list(stops), "tokenizer": tokenizer} if stops else {}
    answers = []
    for question in asked:
        prompt = torch.tensor([question.prompt])
        made = model.generate(prompt, attention_mask=torch.ones_like(prompt), return_dict_in_generate=True, output_logits=True, **options)
        ids = made.sequences[0, len(question.prompt) :].tolist()
        rows = zip(made.logits, ids, strict=True)
        answers.append(Answer(ids, [float(torch.log_softmax(logits[0].float(), -1)[token]) for logits, token in rows]))
        progress(len(answers), len(asked))
    return answers


@torch.inference_mode()
def gaps(folder: Path, asked: Sequence[Question], answers: Sequence[Answer]) -> list[float | None]:
    """Return by how many nats our token is likelier than theirs where an answer first differs, as transformers has it in float32.

    None for the same answers, and where one goes on after the other has ended.
    """
    found: list[float | None] = [None] * len(asked)
    model: Any = None
    for index, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        place = first_difference(question.ids, answer.ids)
        if place is None or place >= min(len(question.ids), len(answer.ids)):
            continue
        if model is None:
            model, _ = plain(folder, "float32")
        logits = model(torch.tensor([question.prompt + question.ids[:place]])).logits[0, -1]
        found[index] = float(logits[question.ids[place]] - logits[answer.ids[place]])
    return found
