"""Training and playing on a card; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lms import TINY  # sets one thread

from steptool_agents import ALGORITHMS, load_algorithm
from steptool_agents.config import Config
from steptool_agents.models.loading import load_model
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.runs.checkpoint import load_checkpoint
from steptool_agents.runs.policies import load_policy, training_model
from steptool_agents.runs.trackers import read_metrics
from steptool_env import make_suite

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card")

SIZES = {"suite_options": {"level": 1}, "demos": 8, "demo_batch": 4, "updates": 2, "episodes": 8, "eval_episodes": 4, "max_steps": 3, "minibatches": 2}
ONLINE = sorted(set(ALGORITHMS) - {"step-ppo-offline"})


@pytest.mark.parametrize("algo", ONLINE)
def test_every_algorithm_trains_on_the_card_and_goes_on(algo: str, tmp_path: Path) -> None:
    config = Config.from_dict({**Config.preset("tiny", "worlds", algo), **SIZES, "algo": algo, "device": "cuda"})
    assert training_model(config).device.type == "cuda"
    load_algorithm(algo)(config, tmp_path)
    if algo != "sft":
        load_algorithm(algo)(config.replace(updates=3), tmp_path, resume=True)
        assert read_metrics(tmp_path)[-1]["update"] == 2
        assert load_checkpoint(tmp_path)[0] == 3
    for device in ("cpu", "cuda"):
        policy, _ = load_policy(tmp_path, device=device)
        assert policy.lm.device.type == device


@pytest.mark.parametrize("change", [{"lora_rank": 4, "kl": 0.01}, {"gradient_checkpointing": "selective"}, {"bfloat16": True}, {"credit": "gigpo", "group": 4}])
def test_settings_on_the_card(change: dict[str, object], tmp_path: Path) -> None:
    config = Config.from_dict({**SIZES, "device": "cuda", **change})
    load_algorithm("step-ppo")(config, tmp_path)
    assert read_metrics(tmp_path)[-1]["update"] == 1


def test_the_card_plays_as_the_processor_does() -> None:
    """Greedy episodes of the embedded model are the same, and their log-probabilities differ by rounding only."""
    suite = make_suite("worlds", level=2, split="test")
    played = []
    for device in ("cpu", "cuda"):
        lm = load_model(str(TINY), bfloat16=False, device=device)
        lm.eval()
        played.append(evaluate(LMPolicy(lm, temperature=0.0, max_new_tokens=12), suite, range(8), max_steps=3, width=8)[1])
    for one, other in zip(*played, strict=True):
        assert [step.generation.token_ids for step in one.steps] == [step.generation.token_ids for step in other.steps]
        for a, b in zip(one.steps, other.steps, strict=True):
            assert a.generation.logprobs == pytest.approx(b.generation.logprobs, abs=1e-3)
