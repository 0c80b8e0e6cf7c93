"""Shapes of published models by name, to plan for them without their files."""

from collections.abc import Mapping
from typing import Any

from sentidistill_jax.models.config import PRESETS as SMALL
from sentidistill_jax.models.config import ModelConfig

_LLAMA_3: dict[str, Any] = dict(
    vocab_size=128_256, num_kv_heads=8, rope_theta=500_000.0, max_position=131_072
)

PRESETS: Mapping[str, ModelConfig] = {
    **SMALL,
    "llama-3.2-1b": ModelConfig(
        embed_dim=2048, mlp_dim=8192, num_layers=16, num_heads=32, head_dim=64, **_LLAMA_3
    ),
    "llama-3.2-3b": ModelConfig(
        embed_dim=3072, mlp_dim=8192, num_layers=28, num_heads=24, head_dim=128, **_LLAMA_3
    ),
    "llama-3.1-70b": ModelConfig(
        embed_dim=8192, mlp_dim=28_672, num_layers=80, num_heads=64, head_dim=128,
        tie_embeddings=False, **_LLAMA_3,
    ),
    "qwen2.5-1.5b": ModelConfig(
        vocab_size=151_936, embed_dim=1536, mlp_dim=8960, num_layers=28, num_heads=12,
        num_kv_heads=2, head_dim=128, rope_theta=1_000_000.0, max_position=32_768,
    ),
}  # fmt: skip
