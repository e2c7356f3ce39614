"""The language model: what it says, whichever precision, adapters and attention, and which models it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lms import Conversation, act, check, from_scratch, language_model, play, tokenizer, vocabulary
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import load_model
from steptool_agents.policies.local import LMPolicy
from steptool_env.errors import NotSupported


def test_other_weights_for_a_while() -> None:
    lm = language_model()
    before = {name: parameter.detach().clone() for name, parameter in lm.trainable().items()}
    ids = torch.arange(2, 12)[None]
    expected = lm.hidden(ids)
    with pytest.raises(ZeroDivisionError), lm.swapped({name: weight * 0.5 for name, weight in before.items()}):
        assert not torch.allclose(lm.hidden(ids), expected)
        raise ZeroDivisionError
    torch.testing.assert_close(lm.hidden(ids), expected, atol=0, rtol=0)
    for name, parameter in lm.trainable().items():
        assert torch.equal(parameter, before[name])


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("config", "options"),
    [(GraniteConfig, {"logits_scaling": 4.0}), (Gemma2Config, {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 0.2}), (CohereConfig, {})],
)
def test_scaled_and_capped_logits_are_those_of_the_model(config: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(vocab_size=vocabulary(), **SIZES, initializer_range=0.3, **options))
    lm = LanguageModel(model, tokenizer())
    ids = torch.arange(5, 25)[None]
    torch.testing.assert_close(lm.logits(lm.hidden(ids)), model(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


def test_a_model_whose_logits_come_from_elsewhere_is_refused() -> None:
    model = language_model().model
    forward = model.forward

    def other(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        out.logits = out.logits.flip(-1)
        return out

    model.forward = other
    with pytest.raises(NotSupported, match="llama: its logits are not a projection of its last hidden state"):
        LanguageModel(model, tokenizer())


def test_dropout_is_no_reason_to_refuse() -> None:
    lm = language_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    lm.model.train()
    again = LanguageModel(lm.model, lm.tokenizer)
    assert not any(module.training for module in again.modules()), "a policy made by hand must not sample with dropout"


def test_adapters() -> None:
    base = language_model().model
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    lm = LanguageModel(model, tokenizer())
    names = set(lm.trainable())
    head = {name for name in names if name.startswith("value_head.")}
    assert head
    assert all("lora_" in name for name in names - head)
    for name, parameter in lm.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.eval()
    talks = play(LMPolicy(lm, max_new_tokens=5))
    check(lm, talks, 1.0)
    lm.hidden(torch.arange(2, 12)[None]).sum().backward()
    trained = {name for name, parameter in lm.named_parameters() if parameter.grad is not None}
    assert trained and all("lora_" in name for name in trained)


def test_a_frozen_projection_is_rounded_once_and_follows_its_weight() -> None:
    lm = load_model("tiny", lora_rank=2, bfloat16=True)
    head: Any = lm._parts[1]
    assert not head.weight.requires_grad
    hidden = torch.randn(3, lm.config.hidden_size, requires_grad=True)
    with torch.inference_mode():
        lm.logits(hidden)  # playing comes before learning
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = head(hidden)
        logits = lm.logits(hidden)
        assert torch.equal(logits, expected)
        logits.sum().backward()
        assert lm._rounded(head.weight) is lm._rounded(head.weight)
        with torch.no_grad():
            head.weight.mul_(1.5)


def test_bfloat16() -> None:
    exact, half = language_model("tiny", bfloat16=False), language_model("tiny", bfloat16=True)
    assert all(parameter.dtype == torch.float32 for parameter in half.parameters())
    ids = torch.arange(2, 40)[None]
    assert half.hidden(ids).dtype == torch.float32
    assert not torch.equal(half.hidden(ids), exact.hidden(ids))
    talk = Conversation("What is it?")
    policy = LMPolicy(half, temperature=0.0, max_new_tokens=6)
    for _ in range(2):
        act(policy, [talk])
        talk.answer("A17")
    logprobs = from_scratch(exact, talk.ids)[0]
    first = talk.generations[0]
    for k, (token, logprob) in enumerate(zip(first.token_ids, first.logprobs, strict=True)):
        assert logprob == pytest.approx(logprobs[len(first.prompt_ids) - 1 + k, token].item(), abs=0.1)


def test_rounding_is_no_reason_to_refuse_a_model() -> None:
    """In bfloat16 a deep model's logits differ by several percent between two ways to attend."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary(), **sizes, initializer_range=0.3))
    lm = LanguageModel(model, tokenizer(), bfloat16=True)
    assert lm.autocast
    assert torch.isfinite(lm.hidden(torch.arange(2, 6)[None])).all()


def test_a_layer_that_drops_out_itself_does_so_only_in_training() -> None:
    """OPT's layers look at their own mode, which gradient checkpointing turns on."""
    torch.manual_seed(0)
    config = OPTConfig(vocab_size=vocabulary(), hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, dropout=0.5)
    plain = LanguageModel(OPTForCausalLM(config), tokenizer())
    lm = LanguageModel(plain.model, plain.tokenizer, recompute=True)
    ids = torch.arange(2, 12)[None]
    expected = plain.hidden(ids).detach()
    torch.testing.assert_close(lm.hidden(ids), expected)
    lm.train()
    assert not torch.allclose(lm.hidden(ids), expected)
    lm.hidden(ids).sum().backward()
    lm.quiet()
    torch.testing.assert_close(lm.hidden(ids), expected)
    lm.model.train()  # past the model that knows of it
    lm.quiet()
    torch.testing.assert_close(lm.hidden(ids), expected)


def test_recomputing_activations_changes_no_gradient() -> None:
    """Dropout stays off in evaluation, and the layers do run a second time."""
    found = []
    for recompute in (False, True, "selective"):
        lm = language_model("llama")
        lm = LanguageModel(lm.model, lm.tokenizer, recompute=recompute)
        lm.eval()
        runs = [0]
        lm.model.model.layers[0].input_layernorm.register_forward_hook(lambda *_, runs=runs: runs.__setitem__(0, runs[0] + 1))
        lm.hidden(torch.arange(2, 40)[None]).square().sum().backward()
        found.append({name: parameter.grad for name, parameter in lm.trainable().items() if parameter.grad is not None})
        assert runs == [2 if recompute else 1]
    for name, gradient in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(gradient, other[name], atol=1e-5, rtol=1e-4)
