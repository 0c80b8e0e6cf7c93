"""Configurations by name: those of published models, and tiny ones for tests.

Any other model of these families is read from its config.json.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sentidistill_jax.models.config import ModelConfig, RopeScaling, every_nth_is_global
from sentidistill_jax.models.families import GEMMA2, GEMMA3, QWEN2, QWEN3

# Small enough for unit tests; dims differ from one another so that a mix-up shows.
_TINY = ModelConfig(
    vocab_size=512, embed_dim=48, mlp_dim=80, num_layers=3, num_heads=4, num_kv_heads=2,
    head_dim=16, max_position=256,
)  # fmt: skip
_LLAMA_3_1: dict[str, Any] = dict(
    vocab_size=128_256, head_dim=128, num_kv_heads=8, rope_theta=500_000.0,
    rope_scaling=RopeScaling("llama3", 8.0), tie_embeddings=False, max_position=131_072,
)  # fmt: skip
_LLAMA_3_2: dict[str, Any] = _LLAMA_3_1 | dict(
    rope_scaling=RopeScaling("llama3", 32.0), tie_embeddings=True
)
_LLAMA_3_2_1B: dict[str, Any] = _LLAMA_3_2 | {"head_dim": 64}
_QWEN2_5: dict[str, Any] = dict(
    family=QWEN2, rope_theta=1_000_000.0, rms_norm_eps=1e-6, max_position=32_768
)  # fmt: skip
_QWEN3: dict[str, Any] = dict(
    family=QWEN3, vocab_size=151_936, num_kv_heads=8, head_dim=128, rope_theta=1_000_000.0,
    rms_norm_eps=1e-6, max_position=40_960,
)  # fmt: skip
_GEMMA3: dict[str, Any] = dict(
    family=GEMMA3, vocab_size=262_144, num_heads=4, num_kv_heads=1, head_dim=256,
    rope_theta=1_000_000.0, local_rope_theta=10_000.0, sliding_window=512, rms_norm_eps=1e-6,
    max_position=32_768,
)  # fmt: skip
_SMOLLM2: dict[str, Any] = dict(
    vocab_size=49_152, head_dim=64, rope_theta=100_000.0, max_position=8192
)
_SMOLLM2_1_7B: dict[str, Any] = _SMOLLM2 | {"rope_theta": 130_000.0}

PRESETS: Mapping[str, ModelConfig] = {
    "tiny": _TINY,
    "tiny-llama3": dataclasses.replace(
        _TINY, rope_scaling=RopeScaling("llama3", 4.0, original_max_position=32)
    ),
    "tiny-qwen2.5": dataclasses.replace(_TINY, family=QWEN2),
    "tiny-qwen3": dataclasses.replace(_TINY, family=QWEN3),
    "tiny-gemma2": dataclasses.replace(
        _TINY, family=GEMMA2, sliding_window=8, sliding_layers=every_nth_is_global(3, 2),
        attention_softcap=4.0, logit_softcap=8.0,
    ),
    "tiny-gemma3": dataclasses.replace(
        _TINY, family=GEMMA3, sliding_window=8, sliding_layers=every_nth_is_global(3, 3),
        rope_theta=100_000.0, local_rope_theta=10_000.0,
    ),
    "llama-3.2-1b": ModelConfig(
        embed_dim=2048, mlp_dim=8192, num_layers=16, num_heads=32, **_LLAMA_3_2_1B
    ),
    "llama-3.2-3b": ModelConfig(
        embed_dim=3072, mlp_dim=8192, num_layers=28, num_heads=24, **_LLAMA_3_2
    ),
    "llama-3.1-8b": ModelConfig(
        embed_dim=4096, mlp_dim=14_336, num_layers=32, num_heads=32, **_LLAMA_3_1
    ),
    "llama-3.1-70b": ModelConfig(
        embed_dim=8192, mlp_dim=28_672, num_layers=80, num_heads=64, **_LLAMA_3_1
    ),
    "qwen2.5-0.5b": ModelConfig(
        vocab_size=151_936, embed_dim=896, mlp_dim=4864, num_layers=24, num_heads=14,
        num_kv_heads=2, head_dim=64, **_QWEN2_5,
    ),
    "qwen2.5-1.5b": ModelConfig(
        vocab_size=151_936, embed_dim=1536, mlp_dim=8960, num_layers=28, num_heads=12,
        num_kv_heads=2, head_dim=128, **_QWEN2_5,
    ),
    "qwen2.5-72b": ModelConfig(
        vocab_size=152_064, embed_dim=8192, mlp_dim=29_568, num_layers=80, num_heads=64,
        num_kv_heads=8, head_dim=128, tie_embeddings=False, **_QWEN2_5,
    ),
    "qwen3-0.6b": ModelConfig(
        embed_dim=1024, mlp_dim=3072, num_layers=28, num_heads=16, **_QWEN3
    ),
    "qwen3-1.7b": ModelConfig(
        embed_dim=2048, mlp_dim=6144, num_layers=28, num_heads=16, **_QWEN3
    ),
    "qwen3-4b": ModelConfig(
        embed_dim=2560, mlp_dim=9728, num_layers=36, num_heads=32, **_QWEN3
    ),
    "gemma-3-270m": ModelConfig(
        embed_dim=640, mlp_dim=2048, num_layers=18,
        sliding_layers=every_nth_is_global(18, 6), **_GEMMA3,
    ),
    "gemma-3-1b": ModelConfig(
        embed_dim=1152, mlp_dim=6912, num_layers=26,
        sliding_layers=every_nth_is_global(26, 6), **_GEMMA3,
    ),
    "smollm2-135m": ModelConfig(
        embed_dim=576, mlp_dim=1536, num_layers=30, num_heads=9, num_kv_heads=3, **_SMOLLM2
    ),
    "smollm2-360m": ModelConfig(
        embed_dim=960, mlp_dim=2560, num_layers=32, num_heads=15, num_kv_heads=5, **_SMOLLM2
    ),
    "smollm2-1.7b": ModelConfig(
        embed_dim=2048, mlp_dim=8192, num_layers=24, num_heads=32, num_kv_heads=32,
        **_SMOLLM2_1_7B,
    ),
}  # fmt: skip
