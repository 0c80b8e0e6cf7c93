"""The shape of a decoder, read from the files that models come in."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A Llama-family decoder: pre-norm, rotary, grouped-query attention, SwiGLU."""

    vocab_size: int
    embed_dim: int
    mlp_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_embeddings: bool = True
    max_position: int = 2048  # longest sequence the model was trained for, in tokens

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must be a multiple of"
                f" num_kv_heads={self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary pairs its halves.")

    @property
    def num_parameters(self) -> int:
        """Every weight counted once (a tied head is the embedding)."""
        attention = self.embed_dim * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        block = attention + 3 * self.embed_dim * self.mlp_dim + 2 * self.embed_dim
        embeddings = self.vocab_size * self.embed_dim * (1 if self.tie_embeddings else 2)
        return embeddings + self.num_layers * block + self.embed_dim

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Reads a Hugging Face `config.json`.

        Raises:
          ValueError: If a field is missing, or the architecture or a setting is one that this
            decoder does not compute.
        """
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        _refuse_others(
            "config.json",
            {
                "model_type": (config.get("model_type"), "llama"),
                "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
                "hidden_act": (config.get("hidden_act", "silu"), "silu"),
                "attention_bias": (config.get("attention_bias", False), False),
                "mlp_bias": (config.get("mlp_bias", False), False),
            },
        )
        of = functools.partial(_required, "config.json", config)
        heads = of("num_attention_heads")
        return cls(
            vocab_size=of("vocab_size"),
            embed_dim=of("hidden_size"),
            mlp_dim=of("intermediate_size"),
            num_layers=of("num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or of("hidden_size") // heads,
            rope_theta=rope.get("rope_theta") or config.get("rope_theta") or 10_000.0,
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            tie_embeddings=config.get("tie_word_embeddings", False),
            max_position=config.get("max_position_embeddings", 2048),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers, vLLM and llama.cpp read."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.embed_dim,
            "intermediate_size": self.mlp_dim,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_embeddings,
            "max_position_embeddings": self.max_position,
            "attention_bias": False,
            "mlp_bias": False,
            "torch_dtype": "float32",
        }

    @classmethod
    def from_gguf(cls, fields: Mapping[str, Any], *, tie_embeddings: bool) -> "ModelConfig":
        """Reads the metadata of a GGUF file.

        Args:
          fields: Names and values of its metadata.
          tie_embeddings: Whether the file has no head of its own, which no field says.

        Raises:
          ValueError: If a field is missing, or the architecture or a setting is one that this
            decoder does not compute.
        """
        _refuse_others(
            "the GGUF file",
            {
                "general.architecture": (fields.get("general.architecture"), "llama"),
                "llama.rope.scaling.type": (fields.get("llama.rope.scaling.type", "none"), "none"),
            },
        )
        of = functools.partial(_required, "the GGUF file", fields)
        heads = of("llama.attention.head_count")
        embed_dim = of("llama.embedding_length")
        return cls(
            vocab_size=len(of("tokenizer.ggml.tokens")),
            embed_dim=embed_dim,
            mlp_dim=of("llama.feed_forward_length"),
            num_layers=of("llama.block_count"),
            num_heads=heads,
            num_kv_heads=fields.get("llama.attention.head_count_kv", heads),
            head_dim=fields.get("llama.attention.key_length", embed_dim // heads),
            rope_theta=fields.get("llama.rope.freq_base", 10_000.0),
            rms_norm_eps=of("llama.attention.layer_norm_rms_epsilon"),
            tie_embeddings=tie_embeddings,
            max_position=of("llama.context_length"),
        )


def _required(source: str, fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"{source} lacks the field {name!r}; is it the file of a decoder?")
    return fields[name]


def _refuse_others(source: str, supported: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises for the first field whose (got, expected) differ."""
    for field, (got, expected) in supported.items():
        if got != expected:
            raise ValueError(
                f"{source} has {field}={got!r}, expected {expected!r}, which is all this decoder"
                " computes; choose another model."
            )


PRESETS: Mapping[str, ModelConfig] = {
    # Small enough for unit tests; dims differ from one another so that a mix-up shows.
    "tiny": ModelConfig(
        vocab_size=512, embed_dim=48, mlp_dim=80, num_layers=3, num_heads=4, num_kv_heads=2,
        head_dim=16, max_position=256,
    ),
    "smollm2-135m": ModelConfig(
        vocab_size=49152, embed_dim=576, mlp_dim=1536, num_layers=30, num_heads=9, num_kv_heads=3,
        head_dim=64, rope_theta=100_000.0, max_position=8192,
    ),
}  # fmt: skip
