"""Matrix products by oneDNN: what they compute, by hand and beside PyTorch's own, and where they are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lms import language_model
from torch import Tensor, nn

from steptool_agents import load_model
from steptool_agents.models import products
from steptool_agents.models.products import ProductLinear, fast_products, product

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch has no oneDNN")


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use it on every machine, and for the smallest product."""
    monkeypatch.setattr(products, "_helps", lambda: True)
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(products, "NARROW", 1)


def alike(out: int, size: int, *, bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    """Return two modules with the same weights: PyTorch's, and ours."""
    torch.manual_seed(0)
    theirs, ours = nn.Linear(size, out, bias=bias), nn.Linear(size, out, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    fast_products(ours)
    assert type(ours) is ProductLinear
    return theirs, ours


def gradients(module: nn.Module, x: Tensor, push: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = module(x)
    (out.float() * push).sum().backward()
    assert x.grad is not None
    return {"out": out.detach(), "x": x.grad, **{name: one.grad for name, one in module.named_parameters() if one.grad is not None}}


@pytest.mark.usefixtures("everywhere")
def test_the_product_and_its_gradients_by_hand() -> None:
    # x = (1, 2), W = [[1, 2], [3, 4], [5, 6]], b = (1, 0, -1): y = (5 + 1, 11, 17 - 1)
    # ∂y = (1, 0, 2): ∂x = (1 + 10, 2 + 12), ∂W = ∂yᵀ·x, ∂b = ∂y
    _, ours = alike(3, 2)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        ours.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    found = gradients(ours, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0, 2.0]]))
    expected = {"out": [[6.0, 11.0, 16.0]], "x": [[11.0, 14.0]], "weight": [[1.0, 2.0], [0.0, 0.0], [2.0, 4.0]], "bias": [1.0, 0.0, 2.0]}
    assert {name: one.tolist() for name, one in found.items()} == expected


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(24, 16), (16, 24)])
@pytest.mark.parametrize("rows", [(), (3,), (2, 5), (2, 3, 5), (0,), (2, 0), (130,)])
def test_any_shape_and_an_output_that_is_changed_in_place(rows: tuple[int, ...], size: tuple[int, int], bias: bool) -> None:
    out, inner = size
    x, push = torch.randn(*rows, inner), torch.randn(*rows, out)
    found = []
    for module in alike(out, inner, bias=bias):
        module.register_forward_hook(lambda _, given, result: result.mul_(2.0))  # as some architectures scale what a projection returns
        found.append(gradients(module, x, push))
    assert found[0].keys() == found[1].keys()
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("everywhere")
def test_float32_to_the_last_bits() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(300, 96), torch.randn(200, 96)
    for left, right in ((x, weight), (x[::3], weight[:, :]), (x.t()[:, :96], weight.t()[:50, :96]), (x[:, ::2], weight[:, 1::2])):
        expected = left.double() @ right.double().t()
        assert float((product(left, right).double() - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.usefixtures("everywhere")
def test_a_frozen_matrix_has_no_gradient_and_other_precisions_are_left_to_pytorch() -> None:
    theirs, ours = alike(24, 16)
    ours.requires_grad_(False)
    assert gradients(ours, torch.randn(3, 16), torch.randn(3, 24)).keys() == {"out", "x"}
    x = torch.randn(3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ours(x), theirs(x)) and ours(x).dtype == torch.bfloat16
    assert torch.equal(ours.to(torch.bfloat16)(x.bfloat16()), theirs.to(torch.bfloat16)(x.bfloat16()))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("recompute", [False, True, "selective"])
def test_a_model_learns_the_same(recompute: bool | str) -> None:
    ids = torch.arange(2, 50)[None]
    found: list[dict[str, Any]] = []
    for fast in (False, True):
        torch.manual_seed(0)
        lm = language_model(recompute=recompute)
        if fast:
            fast_products(lm.model)
            assert any(type(module) is ProductLinear for module in lm.model.modules())
        lm.logits(lm.hidden(ids)).logsumexp(-1).sum().backward()
        found.append({name: one.grad for name, one in lm.model.named_parameters()})
    scale = max(float(one.abs().max()) for one in found[0].values())
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, atol=2e-6 * scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("made_by", "capability", "helps"), [("AuthenticAMD", "AVX512", True), ("GenuineIntel", "AVX512", False), ("AuthenticAMD", "AVX2", False)]
)
def test_where_it_helps_is_read_from_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made_by: str, capability: str, helps: bool) -> None:
    described = tmp_path / "cpuinfo"
    described.write_text(f"processor\t: 0\nvendor_id\t: {made_by}\n", encoding="utf-8")
    monkeypatch.setattr(products, "Path", lambda _: described)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    products._helps.cache_clear()
    try:
        assert products._helps() is helps
        plain = {type(module) for module in load_model("tiny").model.modules() if isinstance(module, nn.Linear)}
        assert plain == {ProductLinear if helps else nn.Linear}
    finally:
        products._helps.cache_clear()
