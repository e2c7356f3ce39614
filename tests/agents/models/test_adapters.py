"""Adapters that learn: what they compute, by hand and beside ``peft``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lms import language_model
from peft import LoraConfig, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn

from steptool_agents.models.adapters import AdaptedLinear, adapt


def adapted(out: int, size: int, rank: int, *, bias: bool = False, **options: Any) -> tuple[Any, Any]:
    """Return two models of one linear module with adapters and the same weights: ``peft``'s, and ours."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        settings = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=["0"], init_lora_weights=False, **options)
        made.append(get_peft_model(nn.Sequential(nn.Linear(size, out, bias=bias)), settings))  # type: ignore[arg-type]
    adapt(made[1])
    return made[0], made[1]


def module(model: Any) -> Any:
    return model.base_model.model[0]


def gradients(model: nn.Module, x: Tensor, push: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = model(x)
    (out.float() * push).sum().backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert x.grad is not None
    return {"out": out.detach(), "x": x.grad, **found}


def test_the_product_and_its_gradients_by_hand() -> None:
    # W = [[1, 0], [0, 1]], A = [1, 2], B = [3, 0], s = 3, x = (1, 1): x·Aᵀ = 3, y = (1, 1) + 3·3·(3, 0) = (28, 1)
    # ∂y = (1, 2): v = 3·(1·3 + 2·0) = 9, ∂x = (1, 2) + 9·(1, 2), ∂A = 9·(1, 1), ∂B = 3·3·(1, 2)
    _, model = adapted(2, 2, 1)
    ours = module(model)
    with torch.no_grad():
        ours.base_layer.weight.copy_(torch.eye(2))
        ours.lora_A["default"].weight.copy_(torch.tensor([[1.0, 2.0]]))
        ours.lora_B["default"].weight.copy_(torch.tensor([[3.0], [0.0]]))
    found = gradients(ours, torch.ones(1, 2), torch.tensor([[1.0, 2.0]]))
    expected = {"out": [[28.0, 1.0]], "x": [[10.0, 20.0]], "lora_A.default.weight": [[9.0, 9.0]], "lora_B.default.weight": [[9.0], [18.0]]}
    assert {name: one.tolist() for name, one in found.items()} == expected


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_it_is_what_peft_computes(bias: bool, half: bool) -> None:
    peft, ours = adapted(24, 16, 4, bias=bias)
    x, push = torch.randn(2, 5, 16), torch.randn(2, 5, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        expected, found = gradients(peft, x, push), gradients(ours, x, push)
    assert found.keys() == expected.keys()
    tolerance = {"atol": 0.1, "rtol": 0.02} if half else {"atol": 1e-5, "rtol": 1e-5}
    for name, one in expected.items():
        assert found[name].dtype == one.dtype
        torch.testing.assert_close(found[name], one, **tolerance)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(16,), (3, 16), (2, 5, 16), (2, 3, 5, 16), (0, 16), (2, 0, 16)])
def test_any_shape_and_an_output_that_is_changed_in_place(shape: tuple[int, ...]) -> None:
    peft, ours = adapted(24, 16, 4)
    x, push = torch.randn(shape), torch.randn(*shape[:-1], 24)
    found = []
    for one in (peft, ours):
        model = module(one)
        changed = model.register_forward_hook(lambda _, given, out: out.mul_(2.0))  # as some architectures scale what a projection returns
        found.append(gradients(model, x, push))
        changed.remove()
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, atol=1e-5, rtol=1e-5)


def test_what_it_does_not_know_is_left_to_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    forward = lora.Linear.forward
    monkeypatch.setattr(lora.Linear, "forward", lambda self, x, *args, **kwargs: asked.append(self) or forward(self, x, *args, **kwargs))
    x = torch.randn(3, 4)

    def left(model: Any) -> bool:
        asked.clear()
        model(x)
        return bool(asked)

    _, plain = adapted(4, 4, 2)
    assert not left(plain)
    with plain.disable_adapter():
        assert left(plain)
    module(plain).base_layer.weight.requires_grad_(True)
    assert left(plain)
    _, drops = adapted(4, 4, 2, lora_dropout=0.5)
    assert left(drops.train()) and not left(drops.eval())
    assert left(adapted(4, 4, 2, use_dora=True)[1])
    assert left(adapted(4, 4, 2, lora_bias=True, bias=True)[1])


def test_adapters_are_merged_as_before() -> None:
    peft, ours = adapted(6, 5, 2)
    x = torch.randn(3, 5)
    expected = peft(x)
    torch.testing.assert_close(ours.merge_and_unload()(x), expected)


@pytest.mark.parametrize("what", [False, "selective", True])
def test_a_loaded_model_learns_with_it(what: bool | str) -> None:
    """With gradient checkpointing, too."""
    found = []
    for ours in (True, False):
        lm = language_model("tiny", lora_rank=4, recompute=what)
        modules: list[Any] = [one for one in lm.modules() if isinstance(one, lora.Linear)]
        assert modules and all(type(one) is AdaptedLinear for one in modules)
        for number, one in enumerate(modules):
            torch.nn.init.normal_(one.lora_B["default"].weight, std=0.1, generator=torch.Generator().manual_seed(number))
            if not ours:
                one.__class__ = lora.Linear
        loss = lm.hidden(torch.arange(2, 302)[None]).square().mean()
        loss.backward()
        found.append((loss.detach(), {name: one.grad for name, one in lm.trainable().items() if one.grad is not None}))
    (loss, ours_), (same, theirs) = found
    torch.testing.assert_close(loss, same, rtol=1e-6, atol=0.0)
    assert ours_.keys() == theirs.keys() and ours_
    for name, one in theirs.items():
        assert (ours_[name] - one).norm() <= 1e-5 * one.norm(), name
