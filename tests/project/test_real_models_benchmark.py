"""benchmarks/real_models.py: where answers part, by hand; what transformers and a server are asked; its page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_files import load
from lms import trajectory
from servers import Reply, Request, serving

from steptool_agents import LMPolicy, evaluate, load_model
from steptool_agents.models.loading import TINY
from steptool_agents.servers.client import Failure
from steptool_env import make_suite

real_models = load("real_models")
Answer, Question, Tally = real_models.Answer, real_models.Question, real_models.Tally

GIVEN = argparse.Namespace(demos=20, updates=3, episodes=4, tasks=20)
ASKED = [Question(0, [1], [5, 6, 7], [-0.1, -0.2, -0.3]), Question(0, [1, 2], [8], [-0.4]), Question(1, [3], [9, 4], [-0.5, -0.6])]


def silent(done: int, of: int) -> None: ...


@pytest.mark.parametrize(
    ("ours", "theirs", "place"), [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1], 1), ([1], [1, 2], 1), ([2], [3], 0), ([], [], None)]
)
def test_the_place_of_the_first_difference(ours: list[int], theirs: list[int], place: int | None) -> None:
    assert real_models.tally([Question(0, [], ours, [])], [Answer(theirs, [])], [None]).parted == ([] if place is None else [(0, place, None)])


def test_a_question_holds_all_tokens_before_its_action() -> None:
    asked = real_models.questions([trajectory([([1, 2], [3]), ([4], [5, 6]), ([7], [])], [0.0] * 3), trajectory([([8], [9])], [0.0])])
    assert [(one.episode, one.prompt, one.ids) for one in asked] == [(0, [1, 2], [3]), (0, [1, 2, 3, 4], [5, 6]), (1, [8], [9])]
    assert all(len(one.logprobs) == len(one.ids) for one in asked)


def test_the_tally_by_hand() -> None:
    same = [Answer(one.ids, one.logprobs) for one in ASKED]
    assert real_models.tally(ASKED, same, [None] * 3) == Tally((3, 3), (2, 2), (6, 6), 0.0, [])
    answers = [Answer([5, 0], [-0.15, -9.0]), same[1], Answer([9, 4, 4], [-0.5, -0.6, -0.7])]
    found = real_models.tally(ASKED, answers, [2e-4, None, None])
    assert found[:3] == ((1, 3), (0, 2), (4, 6))  # one token of the first action, one of the second, two of the third
    assert found.furthest == pytest.approx(0.05)  # of the token 5: what comes after the difference says nothing
    assert (found.parted, found.ties, found.median_gap) == ([(0, 1, 2e-4), (2, 2, None)], 1, 2e-4)
    assert real_models.tally(ASKED, answers, [-0.5, None, None]).ties == 0


@pytest.fixture(scope="module")
def played() -> tuple[list[Any], dict[str, Any]]:
    """What ``tiny`` writes greedily, and how its actions end."""
    policy = LMPolicy(load_model("tiny"), temperature=0.0, max_new_tokens=8)
    _, trajectories = evaluate(policy, make_suite("worlds", level=1, split="test"), [0, 1], max_steps=2)
    ending = {"limit": 8, "ends": sorted(policy.reading.ends), "stops": list(policy.call_format.stop)}
    return real_models.questions(trajectories), ending


def test_transformers_gives_the_same_answers_and_log_probabilities(played: tuple[list[Any], dict[str, Any]]) -> None:
    asked, ending = played
    answers = real_models.ask_transformers(TINY, asked, **ending, progress=silent)
    found = real_models.tally(asked, answers, real_models.gaps(TINY, asked, answers))
    assert found.actions == (len(asked), len(asked)) and found.parted == [] and 0 < found.furthest < 1e-4


def test_one_pass_an_episode_says_the_same_and_ends_with_what_is_not_ours(played: tuple[list[Any], dict[str, Any]]) -> None:
    asked, _ = played
    answers, nats = real_models.read_with_transformers(TINY, asked, progress=silent)
    found = real_models.tally(asked, answers, nats)
    assert found.actions == (len(asked), len(asked)) and found.parted == [] and 0 < found.furthest < 1e-4
    one = asked[0]
    other = one._replace(ids=[one.ids[0], (one.ids[1] + 1) % 1000, *one.ids[2:]])
    (answer,), (gap,) = real_models.read_with_transformers(TINY, [other], progress=silent)
    assert answer.ids == one.ids[:2] and gap < 0  # what it would have written there is likelier than what is said to be ours
    assert real_models.gaps(TINY, [other], [answer]) == [pytest.approx(gap, abs=1e-4)]


def test_gaps_are_those_of_the_two_tokens(played: tuple[list[Any], dict[str, Any]]) -> None:
    asked, _ = played
    one = asked[0]
    other = (one.ids[1] + 1) % 1000
    found = real_models.gaps(TINY, [one, one, one], [Answer(one.ids, []), Answer([one.ids[0], other], []), Answer(one.ids[:1], [])])
    model, _ = sys.modules[real_models.gaps.__module__].plain(TINY, "float32")
    with torch.inference_mode():
        said = torch.log_softmax(model(torch.tensor([one.prompt + one.ids[:1]])).logits[0, -1], -1)
    assert found == [None, pytest.approx(float(said[one.ids[1]] - said[other]), abs=1e-5), None]
    assert found[1] > 0  # ours was the likeliest


def test_a_server_is_asked_for_exactly_these_tokens() -> None:
    said = {tuple(one.prompt): one for one in ASKED}
    bodies: list[dict[str, Any]] = []

    def reply(request: Request) -> Reply:
        body = json.loads(request.body)
        bodies.append(body)
        if body["max_tokens"] != 3:
            return 400, {}, "too long"
        one = said[tuple(body["prompt"])]
        return 200, {}, json.dumps({"choices": [{"token_ids": one.ids, "logprobs": {"token_logprobs": one.logprobs}}]})

    asking: dict[str, Any] = {"limit": 3, "ends": [2], "stops": ["</x>"], "vocabulary": 10, "progress": silent}
    with serving(reply) as url:
        answers = real_models.ask_server(f"http://{url}/v1", "exported", ASKED, **asking)
        assert real_models.tally(ASKED, answers, [None] * 3).actions == (3, 3)
        with pytest.raises(Failure, match="400"):
            real_models.ask_server(f"http://{url}/v1", "exported", ASKED, **asking | {"limit": 4})
    assert bodies[0]["temperature"] == 0.0 and bodies[0]["stop"] == ["</x>"] and bodies[0]["stop_token_ids"] == [2] and bodies[0]["max_tokens"] == 3


@pytest.mark.parametrize("model", ["smollm2", "gemma3-270m", "tiny"])
@pytest.mark.parametrize("suite", ["worlds", "bfcl"])
def test_the_settings_of_a_cell(model: str, suite: str) -> None:
    config = real_models.settings(model, suite, GIVEN)
    assert (config.model.name, config.task.suite, config.model.lora_rank, config.rollout.episodes, config.task.max_steps) == (model, suite, 8, 4, 4)
    assert config.task.suite_options["level" if suite == "worlds" else "category"] == (1 if suite == "worlds" else "simple")
    assert "depth" not in config.task.suite_options and not config.warm_start.demo_options  # those of the level


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    made: list[int] = []
    for _ in range(2):
        found = real_models.once(tmp_path / "a.json", lambda: {"n": made.append(0) or len(made)})
        assert found["n"] == 1 and found["seconds"] >= 0


def test_the_page_has_a_row_for_each_program_also_for_one_that_failed() -> None:
    one = {"tally": Tally((1, 3), (0, 2), (4, 6), 0.05, [(0, 1, 2e-4), (2, 2, None)]), "seconds": 3.0, "start": 1.0}
    ways = {"transformers float32": one, "vLLM float32": {"failed": "vLLM did not start", "seconds": 2.0}}
    cell = {"model": "smollm2", "suite": "worlds", "seconds": 60.0, "learnt": [0.1, 0.25], "played": {"success": 0.2, "seconds": 5.0}, "ways": ways}
    text = real_models.page([cell], "python benchmarks/real_models.py", GIVEN)
    assert "| `smollm2`, worlds, level 1 | transformers float32 | 1 of 3 | 0 of 2 | 4 of 6 | 0.05 | 2 | 1 | 0.0002 |" in text
    assert "| `smollm2`, worlds, level 1 | vLLM float32 | vLLM did not start |" in text
    assert "| `smollm2`, worlds, level 1 | 0.10, 0.25 | 0.20 | 6 | 60 | 5 | 3 | float32 2 (0) |" in text
