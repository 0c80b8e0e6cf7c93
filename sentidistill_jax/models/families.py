"""Model families: what all models of one architecture share, and what their files call it.

`FAMILIES` is the one table that the decoder, `config_files`, `hf` and `gguf` read. A family that
differs from these by the flags of `Family` alone is one more entry, which need not be in this file:
see `register_family`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

Path = tuple[Any, ...]  # of a parameter in the decoder; ("layers", ...) are stacked over layers
HEAD: Path = ("lm_head",)


class TensorNames(NamedTuple):
    """What files call a parameter; {layer} stands for the number of the layer."""

    hf: str  # in Hugging Face safetensors
    gguf: str


def layer_names(hf: str, gguf: str) -> TensorNames:
    """Names of a weight or bias in every layer, without what stands before them."""
    return TensorNames(f"model.layers.{{layer}}.{hf}", f"blk.{{layer}}.{gguf}")


TENSOR_NAMES: Mapping[Path, TensorNames] = {
    ("embedding",): TensorNames("model.embed_tokens.weight", "token_embd.weight"),
    ("layers", "attention_norm", "scale"):
        layer_names("input_layernorm.weight", "attn_norm.weight"),
    ("layers", "attention", "q_proj"): layer_names("self_attn.q_proj.weight", "attn_q.weight"),
    ("layers", "attention", "k_proj"): layer_names("self_attn.k_proj.weight", "attn_k.weight"),
    ("layers", "attention", "v_proj"): layer_names("self_attn.v_proj.weight", "attn_v.weight"),
    ("layers", "attention", "q_bias"): layer_names("self_attn.q_proj.bias", "attn_q.bias"),
    ("layers", "attention", "k_bias"): layer_names("self_attn.k_proj.bias", "attn_k.bias"),
    ("layers", "attention", "v_bias"): layer_names("self_attn.v_proj.bias", "attn_v.bias"),
    ("layers", "attention", "q_norm", "scale"):
        layer_names("self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("layers", "attention", "k_norm", "scale"):
        layer_names("self_attn.k_norm.weight", "attn_k_norm.weight"),
    ("layers", "attention", "o_proj"): layer_names("self_attn.o_proj.weight", "attn_output.weight"),
    ("layers", "mlp_norm", "scale"):
        layer_names("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("layers", "mlp", "gate_proj"): layer_names("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("layers", "mlp", "up_proj"): layer_names("mlp.up_proj.weight", "ffn_up.weight"),
    ("layers", "mlp", "down_proj"): layer_names("mlp.down_proj.weight", "ffn_down.weight"),
    ("final_norm", "scale"): TensorNames("model.norm.weight", "output_norm.weight"),
    HEAD: TensorNames("lm_head.weight", "output.weight"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GGUFFormat:
    """How GGUF files hold a family: what llama.cpp knows of it without the files saying so."""

    architecture: str
    paired_rope: bool = False  # rows of q and k have the two numbers of a rotary pair side by side
    global_every: int = 0  # every so many layers one does not slide; 0: none slides
    local_rope_theta: float | None = None  # of sliding layers
    # Number of layers of the one size whose queries are scaled by embed_dim / num_heads; 0: none.
    width_scaled_layers: int = 0


@dataclasses.dataclass(frozen=True)
class Family:
    """What all models of one architecture have in common."""

    model_type: str  # its name in a Hugging Face config.json
    architecture: str  # the class that transformers computes it with
    activation: str = "silu"  # of the gated feed-forward layer: silu or gelu_tanh
    qkv_bias: bool = False
    qk_norm: bool = False  # normalizes each head of queries and keys before the rotation
    sandwich_norms: bool = False  # also normalizes what attention and MLP put out
    norm_offset: float = 0.0  # norms multiply by offset + scale
    scaled_embedding: bool = False  # hidden states start as embedding * sqrt(embed_dim)
    # Fields of its config.json beyond those of every family; keys of `config_files.HF_FIELDS`.
    hf_fields: tuple[str, ...] = ("hidden_act",)
    gguf: GGUFFormat | None = None  # None: not read from GGUF files
    # Parameters that `TENSOR_NAMES` lacks, or that files of the family call otherwise.
    names: Mapping[Path, TensorNames] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def tensor_names(self) -> Mapping[Path, TensorNames]:
        """What files of the family call each parameter."""
        return {**TENSOR_NAMES, **self.names}


LLAMA = Family(  # Llama 2 and 3, SmolLM2
    "llama", "LlamaForCausalLM", hf_fields=("hidden_act", "mlp_bias"),
    gguf=GGUFFormat("llama", paired_rope=True),
)  # fmt: skip
QWEN2 = Family(  # Qwen2 and Qwen2.5
    "qwen2", "Qwen2ForCausalLM", qkv_bias=True,
    hf_fields=("hidden_act", "use_sliding_window", "sliding_window", "layer_types"),
    gguf=GGUFFormat("qwen2"),
)  # fmt: skip
QWEN3 = dataclasses.replace(
    QWEN2, model_type="qwen3", architecture="Qwen3ForCausalLM", qkv_bias=False, qk_norm=True,
    gguf=GGUFFormat("qwen3"),
)  # fmt: skip
_GEMMA_FIELDS = (
    "hidden_activation", "query_pre_attn_scalar", "sliding_window", "layer_types",
    "final_logit_softcapping",
)  # fmt: skip
GEMMA2 = Family(
    "gemma2", "Gemma2ForCausalLM", activation="gelu_tanh", sandwich_norms=True, norm_offset=1.0,
    scaled_embedding=True, hf_fields=(*_GEMMA_FIELDS, "attn_logit_softcapping"),
    # The norm after attention has the Hugging Face name of what is the MLP's own norm elsewhere.
    names={
        ("layers", "post_attention_norm", "scale"):
            layer_names("post_attention_layernorm.weight", "post_attention_norm.weight"),
        ("layers", "mlp_norm", "scale"):
            layer_names("pre_feedforward_layernorm.weight", "ffn_norm.weight"),
        ("layers", "post_mlp_norm", "scale"):
            layer_names("post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
    },
)  # fmt: skip
GEMMA3 = dataclasses.replace(
    GEMMA2, model_type="gemma3_text", architecture="Gemma3ForCausalLM", qk_norm=True,
    hf_fields=(*_GEMMA_FIELDS, "rope_local_base_freq"),
    gguf=GGUFFormat(
        "gemma3", global_every=6, local_rope_theta=10_000.0, width_scaled_layers=62
    ),
)  # fmt: skip
FAMILIES: dict[str, Family] = {}  # by model type


def register_family(family: Family) -> None:
    """Adds a family to those that are read, written and computed.

    Raises:
      ValueError: If its model type or GGUF architecture is taken.
    """
    if family.model_type in FAMILIES:
        raise ValueError(f"model_type={family.model_type!r} is registered already; take another.")
    if family.gguf is not None and family.gguf.architecture in gguf_families():
        raise ValueError(
            f"GGUF architecture {family.gguf.architecture!r} is registered already; take another."
        )
    FAMILIES[family.model_type] = family


def gguf_families() -> dict[str, tuple[Family, GGUFFormat]]:
    """Families that GGUF files hold and how, by the architecture that the files name."""
    formats = ((family, family.gguf) for family in FAMILIES.values())
    return {form.architecture: (family, form) for family, form in formats if form is not None}


for _family in (LLAMA, QWEN2, QWEN3, GEMMA2, GEMMA3):
    register_family(_family)
