"""The one way in which training reads trajectories: everything once, however it is cut up, and everything counted."""

from __future__ import annotations

import pytest
import torch
from lms import from_scratch, language_model, passes, sampled
from torch import Tensor

from steptool_agents.config import Config
from steptool_agents.learning.batches import length
from steptool_agents.learning.passes import Encoded, Passes


@pytest.mark.parametrize("budget", [1, 30, 10_000])
def test_results_come_in_the_order_of_the_trajectories(budget: int) -> None:
    lm = language_model()
    made = sampled(lm)
    reading = passes(lm, Config.of(token_budget=budget))
    found = reading.measure(made, lambda encoded: encoded.by_trajectory(encoded.logprobs()))
    values = reading.measure(made, lambda encoded: encoded.by_trajectory(encoded.values(), "steps"))
    for trajectory, logprobs, worth in zip(made, found, values, strict=True):
        assert logprobs.tolist() == pytest.approx([x for step in trajectory.steps for x in step.generation.logprobs], abs=1e-4)
        assert worth.tolist() == pytest.approx([step.generation.value for step in trajectory.steps], abs=1e-4)
    assert reading.tokens == 2 * sum(map(length, made))


def test_other_weights_for_a_while() -> None:
    lm = language_model()
    made = sampled(lm)
    here = {name: weight.detach().clone() for name, weight in lm.trainable().items()}
    other = {name: weight * 0.5 for name, weight in here.items()}
    (alone, *_) = passes(lm).measure(made, lambda encoded: encoded.by_trajectory(encoded.logprobs()), weights=other)
    assert all(torch.equal(weight, here[name]) for name, weight in lm.trainable().items())
    with lm.swapped(other):
        expected = sampled(lm)[0]
    assert alone.tolist() == pytest.approx([x for step in expected.steps for x in step.generation.logprobs], abs=1e-4)


def test_states_and_actions_by_hand() -> None:
    lm = language_model()
    (trajectory, *_) = sampled(lm)  # 20 context tokens, 3 action tokens, 5 context tokens, 1 action token
    ids = [token for step in trajectory.steps for token in (*step.generation.prompt_ids, *step.generation.token_ids)]
    with torch.no_grad():
        hidden = lm.hidden(torch.tensor([ids]))[0]
        (encoded,) = passes(lm).encode([(trajectory,)])
    torch.testing.assert_close(encoded.states, hidden[[19, 27]])
    torch.testing.assert_close(encoded.actions, hidden[[22, 28]])
    torch.testing.assert_close(encoded.tasks, hidden[:20].mean(0).expand(2, -1))


def test_a_unit_is_read_together() -> None:
    lm = language_model()
    a, b, c = sampled(lm)
    seen: list[tuple[list[int], int]] = []

    def loss(encoded: Encoded) -> tuple[Tensor, dict[str, float]]:
        seen.append((encoded.indices, len(encoded.batch.steps)))
        return encoded.logprobs().sum(), {"pairs": float(len(encoded.indices))}

    still = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    measured = Passes(lm, token_budget=1).step(still, [(a, b), (c, a)], loss)
    assert sorted(places for places, _ in seen) == [[0], [1]] and {together for _, together in seen} == {2}
    assert measured["pairs"] == 2.0


def test_a_step_clips_and_moves_against_the_gradient() -> None:
    lm = language_model()
    made = sampled(lm)
    before = {name: weight.detach().clone() for name, weight in lm.trainable().items()}

    def loss(encoded: Encoded) -> tuple[Tensor, dict[str, float]]:
        return -encoded.logprobs().sum(), {}

    optimizer = torch.optim.SGD(lm.trainable().values(), lr=1.0)
    measured = Passes(lm, max_grad_norm=1e-3).step(optimizer, [(trajectory,) for trajectory in made], loss)
    moved = torch.cat([(weight - before[name]).flatten() for name, weight in lm.trainable().items()]).norm().item()
    assert moved == pytest.approx(1e-3, rel=1e-3)
    assert measured["grad_norm"] > 1e-3
    ids = [token for step in made[0].steps for token in (*step.generation.prompt_ids, *step.generation.token_ids)]
    logprobs, _ = from_scratch(lm, ids)
    assert logprobs[19, ids[20]].item() > made[0].steps[0].generation.logprobs[0]


def test_the_temperature_is_that_of_sampling_unless_another_is_asked_for() -> None:
    lm = language_model()
    (encoded,) = passes(lm, Config.of(temperature=0.5)).encode([(sampled(lm)[0],)])
    cold, plain = encoded.logprobs(), encoded.logprobs(temperature=1.0)
    expected = sampled(lm)[0]
    assert plain.tolist() == pytest.approx([x for step in expected.steps for x in step.generation.logprobs], abs=1e-4)
    assert not torch.allclose(cold, plain)
