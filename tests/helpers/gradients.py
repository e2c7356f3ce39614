"""Gradients of one optimizer step on credited trajectories, to be compared however it was taken."""

from __future__ import annotations

import pytest
import torch
from lms import passes

from steptool_agents.config import Config
from steptool_agents.learning.advantages import Credited
from steptool_agents.learning.policy_gradient import reference_logprobs, take_step
from steptool_agents.models.language_model import LanguageModel

CONFIG = Config.of(kl=0.1, entropy=0.02, minibatches=1, epochs=1, max_grad_norm=1e9)


def gradients(lm: LanguageModel, data: Credited, config: Config = CONFIG, chosen: list[int] | None = None) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    anchors = None
    if config.learning.kl:
        reference = {name: parameter.detach() * 0.9 for name, parameter in lm.trainable().items()}
        anchors = reference_logprobs(passes(lm, config), data.trajectories, reference)
    still = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    everything = list(range(len(data.trajectories)))
    measured = take_step(passes(lm, config), still, data, everything if chosen is None else chosen, config.learning, anchors)
    return measured, {name: parameter.grad.clone() for name, parameter in lm.trainable().items() if parameter.grad is not None}


def same(a: tuple[dict[str, float], dict[str, torch.Tensor]], b: tuple[dict[str, float], dict[str, torch.Tensor]]) -> None:
    assert a[0] == pytest.approx(b[0], rel=1e-4, abs=1e-5)
    assert a[1].keys() == b[1].keys()
    for name, gradient in a[1].items():
        torch.testing.assert_close(gradient, b[1][name], atol=1e-5, rtol=1e-4, msg=name)
