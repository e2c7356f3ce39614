"""What trajectories have in common is encoded once, and nothing else changes: losses, gradients, values, whatever encodes them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_files import load
from gradients import CONFIG, gradients, same
from hypothesis import given
from hypothesis import strategies as st
from lms import language_model, passes, sampled, trajectory

from steptool_agents.algorithms.archer_lite import encode
from steptool_agents.config import Config
from steptool_agents.learning import passes as reading
from steptool_agents.learning.advantages import Credited, assign_credit
from steptool_agents.learning.batches import Batch, collate
from steptool_agents.learning.imitation import fit
from steptool_agents.learning.passes import Passes
from steptool_agents.learning.relatives import GRAIN, Forest, Units, relatives_together, tokens_of
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import load_model
from steptool_agents.trajectory import Trajectory

ARCHITECTURES = load("architectures")


def families(seed: int = 0, tasks: int = 2, members: int = 4) -> list[Any]:
    """Return the steps of groups of episodes: all share the tools, groups the task, and some episodes their first calls."""
    rng = random.Random(seed)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(2, 100) for _ in range(count))

    tools, found = draw(11), []
    for _ in range(tasks):
        task, call, result = draw(7), draw(4), draw(9)
        for member in range(members):
            if member % 2:
                steps = [((*tools, *task), draw(3)), (draw(5), draw(2))]
            else:  # the same first call and result; the second call differs
                steps = [((*tools, *task), call), (result, draw(3)), (draw(4), draw(1 + member))]
            found.append(steps)
    return found


def group(lm: LanguageModel, **options: Any) -> Credited:
    made = [one for index, steps in enumerate(families()) for one in sampled(lm, [steps], task=f"t{index // 4}")]
    return assign_credit(made, 1.0, 0.95, **options)


@pytest.fixture(autouse=True)
def shared_tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Share whatever can be shared; return the tokens of each row of a tree that was read."""
    rows: list[int] = []

    def counting(trajectories: Sequence[Trajectory], *, shared: bool) -> Batch:
        batch = collate(trajectories, shared=shared)
        if shared:
            rows.append(batch.ids.numel())
        return batch

    monkeypatch.setattr(reading, "collate", counting)
    monkeypatch.setattr(reading, "WORTH", 1.01)
    return rows


def apart(lm: LanguageModel, data: Credited, config: Config = CONFIG) -> Any:
    lm._trees = False
    try:
        return gradients(lm, data, config)
    finally:
        lm._trees = True


# -------------------------------------------------------------------- one optimizer step
@pytest.mark.parametrize("budget", [10_000, 90, 40, 1])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_losses_and_gradients_are_those_of_whole_rows(kind: str, budget: int, shared_tokens: list[int]) -> None:
    lm = language_model(kind)
    data = group(lm, credit="rloo")
    config = CONFIG.replace(token_budget=budget)
    expected, found = apart(lm, data), gradients(lm, data, config)
    assert bool(shared_tokens) is (budget > 1), "alone, no trajectory has anything in common with another"
    if budget > 100:
        assert max(shared_tokens) <= 0.75 * sum(len(tokens_of(one)) for one in data.trajectories)
    assert found[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-6)
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6, name


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("what", [True, "selective"])
def test_with_adapters_and_gradient_checkpointing(what: bool | str, lora_rank: int, shared_tokens: list[int]) -> None:
    lm = language_model("tiny", recompute=what, lora_rank=lora_rank)
    for name, parameter in lm.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    data = group(lm)
    same(apart(lm, data), gradients(lm, data))
    assert shared_tokens


@pytest.mark.parametrize("name", ["gemma3_text", "gpt_oss", "deepseek_v3", "llama4_text", "qwen3_moe", "opt"])
def test_windows_sinks_latents_experts(name: str, tmp_path: Path, shared_tokens: list[int]) -> None:
    lm = load_model(str(ARCHITECTURES.build(name, tmp_path)), bfloat16=False)
    data = group(lm)
    same(apart(lm, data), gradients(lm, data))
    assert shared_tokens


@pytest.mark.parametrize("name", ["qwen3_next", "lfm2", "bloom"])
def test_other_architectures_read_whole_rows(name: str, tmp_path: Path, shared_tokens: list[int]) -> None:
    lm = load_model(str(ARCHITECTURES.build(name, tmp_path)), bfloat16=False)
    assert not lm.reads_trees
    assert all(np.isfinite(list(gradients(lm, group(lm), CONFIG.replace(kl=0.0))[0].values())))
    assert not shared_tokens


def test_where_little_is_shared_rows_are_read(monkeypatch: pytest.MonkeyPatch, shared_tokens: list[int]) -> None:
    monkeypatch.setattr(reading, "WORTH", 1.15)
    lm = language_model()
    strangers = [trajectory([(range(first, first + 20), (31, 32))]) for first in (40, 60, 80)]
    gradients(lm, assign_credit(strangers, 1.0, 1.0))
    assert not shared_tokens
    strangers[0] = trajectory([(range(70, 80), (31, 32))])
    gradients(lm, assign_credit(strangers, 1.0, 1.0))
    assert max(shared_tokens) == 22 + 22 + 12, "a tree needs no padding"


# -------------------------------------------------------------------- what else reads trajectories
def test_values_features_and_logprobs(shared_tokens: list[int]) -> None:
    lm = language_model()
    made = list(group(lm).trajectories)
    made = [made[index] for index in (5, 0, 3, 7, 1, 2, 6, 4)]
    reader = passes(lm)
    logprobs = reader.measure(made, lambda encoded: encoded.by_trajectory(encoded.logprobs()))
    values = reader.measure(made, lambda encoded: encoded.by_trajectory(encoded.values(), "steps"))
    turns = encode(reader, made, {})
    assert shared_tokens
    for one, said, worth in zip(made, logprobs, values, strict=True):
        assert said.tolist() == pytest.approx([x for step in one.steps for x in step.generation.logprobs], abs=1e-4)
        assert worth.tolist() == pytest.approx([step.generation.value for step in one.steps], abs=1e-4)
    lm._trees = False
    expected = encode(reader, made, {})
    for name in ("state", "action", "task", "next_state"):
        torch.testing.assert_close(getattr(turns, name), getattr(expected, name), atol=1e-5, rtol=1e-5)


def test_a_token_that_two_episodes_share_has_the_loss_of_both(shared_tokens: list[int]) -> None:
    lm = language_model()
    context = tuple(range(10, 26))
    twice = [trajectory([(context, (30,))], task="a"), trajectory([(context, (30,)), ((31,), (32,))], task="a")]
    batch = collate(twice, shared=True)
    assert batch.copies is not None and batch.distinct is not None
    assert (len(batch.targets), len(batch.distinct)) == (3, 2)
    (encoded,) = passes(lm).encode([(one,) for one in twice])
    logprobs = encoded.logprobs()
    weights = torch.tensor([0.3, 0.5, 0.0] if encoded.indices == [0, 1] else [0.5, 0.0, 0.3])
    (weights * logprobs).sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in lm.trainable().items() if parameter.grad is not None}
    lm.zero_grad(set_to_none=True)
    (alone,) = passes(lm).encode([(twice[0],)])
    (0.8 * alone.logprobs()).sum().backward()
    assert len(shared_tokens) == 1
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, lm.trainable()[name].grad, atol=1e-5, rtol=1e-5, msg=name)


def test_dropout_is_not_shared(shared_tokens: list[int]) -> None:
    lm = language_model("gpt2")
    fit(passes(lm), group(lm).trajectories, epochs=1, lr=0.0)
    assert not shared_tokens


# -------------------------------------------------------------------- who is together
def test_relatives_stand_together_where_the_first_of_them_stood() -> None:
    order = np.random.default_rng(0).permutation(12).tolist()
    assert relatives_together(order, list(range(12))) == order, "without relatives, nothing changes"
    together = relatives_together(order, [index // 4 for index in range(12)])
    assert sorted(together) == list(range(12))
    assert [index // 4 for index in together] == [family for family in dict.fromkeys(index // 4 for index in order) for _ in range(4)]


def draw_units(numbers: Sequence[Sequence[Sequence[int]]]) -> list[list[np.ndarray]]:
    """Return units of sequences; each number stands for a stretch of tokens."""
    return [[np.repeat(np.array(one), GRAIN // 2) for one in unit] for unit in numbers]


numbers = st.lists(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=2), min_size=1, max_size=8)


def tokens_in(units: Sequence[Sequence[np.ndarray]]) -> int:
    return Forest([sequence for unit in units for sequence in unit]).tokens


@given(numbers, st.integers(1, 200))
def test_micro_batches_of_relatives(numbers: list[list[list[int]]], budget: int) -> None:
    units = draw_units(numbers)
    relatives = Units(units)
    found = list(relatives.micro_batches(relatives.order, budget))
    assert sorted(index for group, _ in found for index in group) == list(range(len(units)))
    for members, size in found:
        assert size == tokens_in([units[index] for index in members])
        assert size <= budget or len(members) == 1


@given(numbers, st.integers(1, 4))
def test_processes_share_the_work(numbers: list[list[list[int]]], processes: int) -> None:
    units = draw_units(numbers)
    relatives = Units(units)
    shares = relatives.shares(processes)
    assert [unit for share in shares for unit in share] == relatives.order
    if processes == 2 and len(units) > 1 and len({one.tobytes() for unit in units for one in unit}) == 1:
        assert len(shares) == 2


def test_groups_go_to_one_process_each() -> None:
    units = [[np.array([*range(20), task, *range(task, task + 20), member])] for task in (40, 80) for member in range(4)]
    assert [sorted(share) for share in Units(units).shares(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(numbers)
def test_trees_hold_each_trajectory(numbers: list[list[list[int]]]) -> None:
    made: list[Trajectory] = [trajectory([(one, (7, 8)), (one[:2], (9,))]) for unit in numbers for one in unit]
    batch, rows = collate(made, shared=True), collate(made)
    assert batch.tree is not None and batch.ids.shape == (1, len(batch.tree.positions))
    assert batch.ids.numel() <= rows.tokens
    for name in ("targets", "old_logprobs", "token_step", "weights"):
        assert torch.equal(getattr(batch, name), getattr(rows, name))
    for name in ("state_at", "action_at", "token_at"):  # the same tokens, at the same positions
        places = getattr(batch, name), getattr(rows, name)
        assert torch.equal(batch.ids.flatten()[places[0]], rows.ids.flatten()[places[1]])
        assert torch.equal(batch.tree.positions[places[0]], places[1] % rows.ids.shape[1])
    if batch.distinct is not None and batch.copies is not None:
        assert torch.equal(batch.targets[batch.distinct][batch.copies], batch.targets)
        assert torch.equal(batch.token_at[batch.distinct][batch.copies], batch.token_at)


def test_the_budget_counts_what_is_encoded(shared_tokens: list[int]) -> None:
    lm = language_model()
    data = group(lm)
    with torch.no_grad():
        for _ in Passes(lm, token_budget=90).encode([(one,) for one in data.trajectories]):
            pass
    assert len(shared_tokens) > 1 and max(shared_tokens) <= 90
