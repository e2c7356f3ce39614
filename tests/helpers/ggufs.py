"""A small random model in a GGUF file, as the packages ship one, and a package around it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

__all__ = ["make_package", "write_gguf"]

_WIDTH, _HEADS, _KEYS, _INNER = 32, 4, 2, 64


def write_gguf(path: Path) -> None:
    """Write a llama of one layer that knows 260 tokens: bytes, one merge, and control tokens."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = ["<s>", "</s>", "<pad>", *letters, "th"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    rng = np.random.default_rng(0)
    keys = _WIDTH // _HEADS * _KEYS
    shapes = {"attn_q": (_WIDTH, _WIDTH), "attn_k": (keys, _WIDTH), "attn_v": (keys, _WIDTH), "attn_output": (_WIDTH, _WIDTH)}
    shapes |= {"ffn_gate": (_INNER, _WIDTH), "ffn_up": (_INNER, _WIDTH), "ffn_down": (_WIDTH, _INNER)}
    matrices = {"token_embd": (len(tokens), _WIDTH), "output": (len(tokens), _WIDTH), **{f"blk.0.{name}": shape for name, shape in shapes.items()}}
    for name, shape in matrices.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_package(site: Path, name: str) -> Path:
    """Make a package that holds such a model in two parts, and puts them together as the real ones do; return its folder."""
    folder = site / name
    folder.mkdir(parents=True)
    write_gguf(folder / "whole")
    data = (folder / "whole").read_bytes()
    (folder / "whole").unlink()
    (folder / "part0").write_bytes(data[: len(data) // 2])
    (folder / "part1").write_bytes(data[len(data) // 2 :])
    (folder / "__init__.py").write_text(
        "from pathlib import Path\n\n\ndef assemble(path):\n    here = Path(__file__).parent\n    (here / f'assembled {len(list(here.iterdir()))}').touch()\n"
        "    Path(path).write_bytes((here / 'part0').read_bytes() + (here / 'part1').read_bytes())\n    return Path(path)\n"
    )
    return folder
