"""A policy on model servers, and how it gets its weights there: real servers on loopback that hold a model of their own and load
what they are told to, in the form of vLLM."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradients import CONFIG, gradients, same
from lms import language_model, passes
from model_servers import Server, model, running
from servers import Reply, serving

from steptool_agents.learning.advantages import assign_credit
from steptool_agents.learning.batches import collate
from steptool_agents.learning.losses import action_logprobs
from steptool_agents.learning.optimizer import policy_optimizer
from steptool_agents.learning.policy_gradient import improve
from steptool_agents.models.export import export_model
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.policies.served import ServedPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.rollouts.evaluate import summarize
from steptool_agents.servers.client import ChatClient
from steptool_agents.servers.sampled import sampled
from steptool_agents.servers.weights import HandOver
from steptool_agents.trajectory import Trajectory, read_jsonl, write_jsonl
from steptool_env import StepToolEnv, Unanswered, make_suite
from steptool_env.errors import InvalidArgument, NotSupported, Unavailable

pytest.importorskip("httpx2")


def envs(count: int) -> list[StepToolEnv]:
    suite = make_suite("jsonl", split="all")
    return [StepToolEnv(suite, "final", max_steps=3) for _ in range(count)]


def recomputed(lm: LanguageModel, trajectory: Any, temperature: float) -> list[float]:
    batch = collate([trajectory])
    with torch.no_grad():
        hidden = lm.hidden(batch.ids).flatten(0, 1)[batch.token_at]
        return action_logprobs(hidden, lambda h: lm.logits(h) / temperature, batch.targets)[0].tolist()


@pytest.mark.parametrize("rank", [0, 2])
def test_servers_play_with_the_weights_of_each_update_token_for_token(rank: int, tmp_path: Path) -> None:
    lm = model(rank, seed=1)
    with running(2, tmp_path) as (servers, handover):
        policy = ServedPolicy(lm, handover, temperature=0.7, max_new_tokens=6)
        for update in range(3):
            with torch.no_grad():
                for parameter in lm.trainable().values():
                    parameter.add_(0.05 * torch.randn(parameter.shape))
            policy.forget()
            trajectories = rollout(policy, envs(4), [0, 1, 2, 3])
            for one in trajectories:  # what was recorded is what the trained model says about these very tokens
                recorded = [logprob for step in one.steps for logprob in step.generation.logprobs]
                assert recorded == pytest.approx(recomputed(lm, one, 0.7), abs=1e-4)
            if rank:
                assert all([path.name.rsplit("-", 1)[0] for path in server.adapters.values()] == [f"update-{update}"] for server in servers)
        assert all("/v1/completions" in server.asked for server in servers)
        assert sorted(path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()) == ["update-1", "update-2"]
        assert (handover.failed, policy.unanswered) == (0, 0)
    assert lm.config._attn_implementation == "steptool"


@pytest.mark.slow
def test_episodes_of_a_server_that_dies_go_on_with_another_and_it_comes_back(tmp_path: Path) -> None:
    lm = model(2)
    with running(2, tmp_path) as (servers, handover):
        policy = ServedPolicy(lm, handover, max_new_tokens=4)

        def play() -> list[Trajectory]:
            policy.seeds.extend([1, 2, 3, 4])
            return rollout(policy, envs(4), [0, 1, 2, 3])

        policy.forget()
        expected = play()
        policy.forget()
        servers[0].asked.clear()
        servers[0].dying = 3  # two episodes are under way there
        assert play() == expected, "the other server has the same weights, and is asked for the same tokens"
        assert (policy.moved, policy.unanswered) == (2, 0) and servers[0].dead

        policy.forget()  # the live one alone
        assert handover.failed == 1
        assert play() == expected
        servers[0].dead = False
        servers[0].adapters.clear()  # it was started anew
        policy.forget()
        servers[0].asked.clear()
        assert play() == expected and "/v1/completions" in servers[0].asked
        assert policy.counts() == {"servers/playing": 2, "servers/failed": 1, "servers/moved": 2, "servers/unanswered": 0}
        assert policy.counts()["servers/failed"] == 0, "since the last call"

        for server in servers:
            server.dying = 2
        trajectories = play()
        lost = [one for one in trajectories if one.steps[-1].masked]
        assert len(lost) == policy.unanswered == 4
        for one in lost:
            last = one.steps[-1]
            assert isinstance(last.transition.action, Unanswered)
            assert (last.transition.result.error, one.truncated, set(one.rewards.tolist())) == ("unavailable", True, {0.0})
        assert summarize(trajectories).masked == 4
        write_jsonl(tmp_path / "t.jsonl", trajectories)
        again = list(read_jsonl(tmp_path / "t.jsonl"))
        assert [one.steps[-1].transition.action for one in again] == [one.steps[-1].transition.action for one in trajectories]
        assert sum(one.steps[-1].masked for one in again) == 4
        with pytest.raises(Unavailable, match="no server took the weights"):
            policy.forget()


@pytest.mark.slow
def test_reasoning_on_servers_ends_within_its_budget(tmp_path: Path) -> None:
    lm = model(2)
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
    del lm.config.steptool_prompt
    closing = tuple(lm.tokenizer.encode("\n</think>\n\n", add_special_tokens=False))
    with running(2, tmp_path) as (servers, handover):
        policy = ServedPolicy(lm, handover, max_new_tokens=30, max_reasoning_tokens=4)
        generations = [step.generation for one in rollout(policy, envs(4), [0, 1, 2, 3]) for step in one.steps]
        ended = [one for one in generations if one.forced[1]]
        assert len(ended) > 3
        for one in ended:
            begin, end = one.forced
            assert (begin, one.token_ids[begin:end], one.logprobs[begin:end]) == (4, closing, (0.0,) * len(closing))
            assert end < len(one.token_ids) <= 30
        assert policy.unanswered == 0
        short = ServedPolicy(lm, handover, max_new_tokens=6, max_reasoning_tokens=4)
        assert {step.generation.forced for one in rollout(short, envs(2), [0, 1]) for step in one.steps if len(step.generation.token_ids) == 6} == {(4, 6)}
        servers[0].dead = servers[1].dead = True
        assert all(one.steps[-1].masked for one in rollout(policy, envs(2), [0, 1]))


def test_weights_appear_whole(tmp_path: Path) -> None:
    lm = model(2)
    assert export_model(lm, tmp_path / "a") == export_model(lm, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in (tmp_path / "a").iterdir()}
    export_model(model(0), tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text()).get("_attn_implementation", "") != "steptool"
    assert (tmp_path / "b" / "tokenizer.json").is_file()


V = len(language_model().tokenizer)
NAN, INF = float("nan"), float("inf")


def completion(ids: Any, logprobs: Any) -> str:
    return json.dumps({"choices": [{"text": "", "token_ids": ids, "logprobs": {"token_logprobs": logprobs}}]})


NONSENSE: dict[str, str] = {
    "NaN": completion([5, 6], [-1.0, NAN]),
    "infinite": completion([5, 6], [-1.0, INF]),
    "minus infinity": completion([5, 6], [-1.0, -INF]),
    "what vLLM writes for it": completion([5, 6], [-1.0, -9999.0]),
    "positive": completion([5, 6], [-1.0, 0.01]),
    "a log-probability of 400 digits": completion([5, 6], [-1.0, -(10**400)]),
    "a log-probability as text": completion([5, 6], [-1.0, "-1.0"]),
    "a log-probability that is true": completion([5, 6], [-1.0, False]),
    "no log-probability": completion([5, 6], [-1.0, None]),
    "fewer log-probabilities": completion([5, 6], [-1.0]),
    "more log-probabilities": completion([5], [-1.0, -1.0]),
    "no list of them": completion([5, 6], {"0": -1.0}),
    "texts instead of lists": completion("56", "ab"),
    "outside of the vocabulary": completion([5, V], [-1.0, -1.0]),
    "far outside": completion([5, 2**70], [-1.0, -1.0]),
    "negative id": completion([5, -1], [-1.0, -1.0]),
    "an id that is true": completion([5, True], [-1.0, -1.0]),
    "an id with a point": completion([5, 6.0], [-1.0, -1.0]),
    "an id as text": completion([5, "6"], [-1.0, -1.0]),
    "an id of 400 digits": completion([5, 10**400], [-1.0, -1.0]),
    "more tokens than asked for": completion([5] * 5, [-1.0] * 5),
    "no tokens": completion([], []),
    "no token ids": json.dumps({"choices": [{"text": "hi", "logprobs": {"token_logprobs": [-1.0]}}]}),
    "no log-probabilities at all": json.dumps({"choices": [{"token_ids": [5]}]}),
    "log-probabilities that are a list": json.dumps({"choices": [{"token_ids": [5], "logprobs": [-1.0]}]}),
    "log-probabilities that are a text": json.dumps({"choices": [{"token_ids": [5], "logprobs": "-1.0"}]}),
    "no choices": json.dumps({"choices": []}),
    "a choice that is none": json.dumps({"choices": [7]}),
    "choices that are an object": json.dumps({"choices": {"a": 1}}),
    "a list": "[]",
    "null": "null",
    "a text": "all is well",
    "nothing": "",
    "no JSON": '{"choices": [',
    "deep": "[" * 50_000,
}


class Nonsense(Server):
    """Says one nonsense after another once it is asked to."""

    said: str | None = None

    def completions(self, body: dict[str, Any]) -> Reply:
        return (200, {}, self.said) if self.said is not None else super().completions(body)


def test_a_server_that_answers_nonsense_is_masked_counted_and_left_alone(tmp_path: Path) -> None:
    lm, server = model(2), Nonsense()
    with serving(server) as at:
        client = ChatClient(f"http://{at}/v1", attempts=2, backoff=0.0)
        policy = ServedPolicy(lm, HandOver([client], tmp_path, "m"), max_new_tokens=4)
        policy.forget()
        assert not any(one.masked.any() for one in rollout(policy, envs(1), [0]))
        before = policy.unanswered
        for kind, said in NONSENSE.items():
            server.said = said
            policy.forget()  # as after an update; it is tried again
            asked = server.asked.count("/v1/completions")
            trajectories = rollout(policy, envs(1), [0, 1, 2])
            assert [one.masked.tolist() for one in trajectories] == [[True]] * 3, kind
            assert [one.rewards.tolist() for one in trajectories] == [[0.0]] * 3, kind
            assert all(isinstance(one.steps[0].transition.action, Unanswered) and not one.steps[0].generation.token_ids for one in trajectories), kind
            assert policy.unanswered - before == 3, kind
            assert server.asked.count("/v1/completions") - asked == (1 if kind == "no token ids" else 2), kind  # one request, and no more of the others
            before = policy.unanswered
        assert summarize(trajectories).masked == 3
        server.said = None
        policy.forget()
        assert not any(one.masked.any() for one in rollout(policy, envs(1), [0]))
        assert client.failures["given up"] == len(NONSENSE)
        client.close()


def test_a_learning_step_does_not_see_the_nonsense(tmp_path: Path) -> None:
    lm, server = model(2), Nonsense()
    with serving(server) as at:
        client = ChatClient(f"http://{at}/v1", attempts=1, backoff=0.0)
        policy = ServedPolicy(lm, HandOver([client], tmp_path, "m"), max_new_tokens=4)
        good = rollout(policy, envs(2), [0, 0, 1, 1])
        server.said = NONSENSE["NaN"]
        bad = rollout(policy, envs(2), [2, 2])
        client.close()
    assert [one.masked.tolist() for one in good + bad] == [[False] * len(one.steps) for one in good] + [[True]] * 2
    paid = [replace(one, steps=tuple(replace(step, parts={"solved": float(number)}) for step in one.steps)) for number, one in enumerate(good)]
    without = gradients(lm, assign_credit(paid, 1.0, 0.95))
    same(gradients(lm, assign_credit([*paid[:2], *bad, *paid[2:]], 1.0, 0.95)), without)
    assert without[1] and all(bool(one.isfinite().all()) for one in without[1].values())
    assert any(bool(one.any()) for one in without[1].values())
    assert improve(passes(lm, CONFIG), policy_optimizer(lm, 1e-3), assign_credit(bad, 1.0, 0.95), CONFIG.learning, np.random.default_rng(0), {}) == {}


def test_what_rounding_makes_positive_is_0_and_what_a_server_cannot_send_at_all_is_a_wrong_setting(tmp_path: Path) -> None:
    assert sampled(json.loads(completion([5, V - 1], [1e-6, -2])), 2, V) == ([5, V - 1], [0.0, -2.0])
    with pytest.raises(ValueError, match="log-probabilities of sampled tokens"):
        sampled(json.loads(completion([5, 6], [1e-4, -2])), 2, V)
    server = Nonsense()
    server.said = NONSENSE["no token ids"]
    with serving(server) as at:
        client = ChatClient(f"http://{at}/v1", attempts=2, backoff=0.0)
        policy = ServedPolicy(model(2), HandOver([client], tmp_path, "m"), max_new_tokens=4)
        with pytest.raises(NotSupported, match="return_token_ids"):
            rollout(policy, envs(1), [0])
        client.close()
    with pytest.raises(InvalidArgument, match="at least one server"):
        HandOver([], "x", "m")
