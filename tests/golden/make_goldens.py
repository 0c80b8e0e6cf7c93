"""Writes the goldens: what transformers and torch compute for tiny decoders and embedded models.

Needs an environment of its own, since the project runs without torch:

  python -m venv /tmp/torchvenv
  /tmp/torchvenv/bin/pip install torch==2.13.0 transformers==5.23.0 accelerate gguf
  /tmp/torchvenv/bin/python tests/golden/make_goldens.py NAME ...

where a NAME is one of CONFIGS, or smollm2=PATH or gemma3_270m=PATH with the GGUF file of that
embedded model, which `sentidistill_jax.models.embedded.embedded_path` finds.
Rewrite a golden only when its format changes; a difference from it is an error of ours.
"""

import itertools
import pathlib
import shutil
import sys
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import transformers
from safetensors.numpy import save_file

_HERE = pathlib.Path(__file__).parent
_GREEDY_TOKENS = 64
_LEAST_MARGIN = 1e-3  # between the two best logits of every greedy step: beyond rounding

# Dims differ from one another, so that a mix-up shows; 3 kv heads divide by no mesh axis.
_TIED: dict[str, Any] = dict(
    vocab_size=96, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-5,
    tie_word_embeddings=True, max_position_embeddings=256,
)  # fmt: skip
_UNTIED: dict[str, Any] = dict(
    vocab_size=101, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
    num_attention_heads=6, num_key_value_heads=3, head_dim=8, rms_norm_eps=1e-6,
    tie_word_embeddings=False, max_position_embeddings=256,
)  # fmt: skip
_DEEPER: dict[str, Any] = _TIED | {"num_hidden_layers": 3}
_NO_HEAD_DIM: dict[str, Any] = {key: value for key, value in _TIED.items() if key != "head_dim"}
_WIDER: dict[str, Any] = {key: value for key, value in _UNTIED.items() if key != "head_dim"} | {
    "hidden_size": 48
}
_SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]


def _rope(theta: float, rope_type: str = "default", **fields: float) -> Any:
    return {"rope_type": rope_type, "rope_theta": theta, **fields}


# Rows are 12 tokens and generations 64, so that windows of 5 and scaled rotations show.
CONFIGS: dict[str, Any] = {
    "llama_tied": transformers.LlamaConfig(**_TIED, rope_parameters=_rope(10_000.0)),
    "llama_untied": transformers.LlamaConfig(**_UNTIED, rope_parameters=_rope(100_000.0)),
    "llama3_scaled": transformers.LlamaConfig(
        **_TIED,
        rope_parameters=_rope(
            500.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama_linear": transformers.LlamaConfig(
        **_TIED, rope_parameters=_rope(10_000.0, "linear", factor=4.0)
    ),
    "qwen2": transformers.Qwen2Config(
        **_NO_HEAD_DIM,
        rope_parameters=_rope(1_000_000.0),
    ),
    "qwen2_sliding": transformers.Qwen2Config(
        **_WIDER,
        rope_parameters=_rope(10_000.0), use_sliding_window=True, sliding_window=5,
        max_window_layers=1,
    ),
    "qwen3": transformers.Qwen3Config(**_UNTIED, rope_parameters=_rope(1_000_000.0)),
    "gemma2": transformers.Gemma2Config(
        **_DEEPER, rope_parameters=_rope(10_000.0), sliding_window=5,
        layer_types=_SLIDING, query_pre_attn_scalar=9, pad_token_id=None,
        attn_logit_softcapping=3.0, final_logit_softcapping=6.0,
    ),
    "gemma3": transformers.Gemma3TextConfig(
        **_DEEPER, sliding_window=5, layer_types=_SLIDING,
        query_pre_attn_scalar=16, pad_token_id=None,
        rope_parameters={
            "full_attention": _rope(100_000.0, "linear", factor=8.0),
            "sliding_attention": _rope(1_000.0),
        },
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
# Those that only some families have.
_FURTHER_GRADIENTS = (
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.1.self_attn.k_proj.bias",
    "model.layers.1.self_attn.v_proj.bias",
    "model.layers.0.self_attn.q_norm.weight",
    "model.layers.1.self_attn.k_norm.weight",
    "model.layers.0.post_attention_layernorm.weight",
    "model.layers.1.pre_feedforward_layernorm.weight",
    "model.layers.2.post_feedforward_layernorm.weight",
)
_TEXTS = (
    "The film was",
    "In 2024, 3.14 and 1000000 are numbers.",
    "naïve café — 很好吃 😀👍🏽 ñ",
    "  two  spaces\n\n\tand a tab",
    "<|im_start|>user\nHi<|im_end|>\n",
)


def _random_model(config: transformers.PreTrainedConfig, dtype: torch.dtype):
    """Larger weights than at initialisation, so that predictions differ between positions."""
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(0)
    norm = 0.0 if config.model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight.copy_(norm + 0.2 * noise)
            elif weight.ndim == 1:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(1.5 * weight.shape[-1] ** -0.5 * noise)
    return model.to(dtype).eval()


def _greedy(model: transformers.PreTrainedModel, prompt: torch.Tensor) -> torch.Tensor | None:
    """The continuation of one prompt [1, seq]; None if rounding could change it."""
    tokens = prompt
    for _ in range(_GREEDY_TOKENS):
        logits = model(tokens).logits[0, -1]
        best = logits.topk(2).values
        if best[0] - best[1] < _LEAST_MARGIN:
            return None
        tokens = torch.cat([tokens, logits.argmax()[None, None]], dim=1)
    return tokens[0, prompt.shape[1] :]


def _write_tiny(name: str) -> None:
    directory, config = _HERE / name, CONFIGS[name]
    shutil.rmtree(directory, ignore_errors=True)
    tied = config.tie_word_embeddings
    # Tied ones are stored as one file of bfloat16, the others as several files of float32.
    stored = _random_model(config, torch.bfloat16 if tied else torch.float32)
    stored.save_pretrained(directory, max_shard_size="1GB" if tied else "40KB")
    (directory / "generation_config.json").unlink()
    # Read again: rounding a live model to bfloat16 rounds its rotary frequencies as well.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    for seed in itertools.count(1):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, config.vocab_size, (2, 12), generator=generator)
        greedy = [_greedy(model, row[None]) for row in tokens]
        if all(row is not None for row in greedy):
            break
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    parameters = dict(model.named_parameters())
    golden = {
        "tokens": tokens.int(),
        "logits": logits.detach(),
        "loss": loss.detach(),
        "greedy": torch.stack(greedy).int(),
        **{
            f"gradient/{name}": parameters[name].grad
            for name in (*_GRADIENTS, *_FURTHER_GRADIENTS)
            if name in parameters
        },
    }
    save_file(
        {key: value.detach().numpy() for key, value in golden.items()},
        directory / "golden.safetensors",
    )


def _write_embedded(name: str, path: pathlib.Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
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
    np.savez(_HERE / f"{name}.npz", **golden)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        if argument in CONFIGS:
            _write_tiny(argument)
        else:
            name, path = argument.split("=", 1)
            _write_embedded(name, pathlib.Path(path))
