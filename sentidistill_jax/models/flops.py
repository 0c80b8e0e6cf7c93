"""The one count of a decoder's weights and floating-point operations.

Operations are those of matrix products, a multiplication and an addition being two; norms, biases,
softmax and rotations are left out. The numerator of a utilisation (MFU) counts, as is the
convention, what the mathematics needs: of attention only the pairs of positions that the causal
mask leaves, and nothing that is recomputed. What hardware does can be more: XLA's attention also
computes the masked pairs, which kernels such as splash and cuDNN skip, and remat repeats products.
"""

from flax import nnx

from sentidistill_jax.models.config import ModelConfig


def layer_weights(config: ModelConfig) -> int:
    """Weights of one layer that are multiplied with every token: its matrices."""
    projections = 2 * config.embed_dim * config.head_dim * (config.num_heads + config.num_kv_heads)
    return projections + 3 * config.embed_dim * config.mlp_dim


def num_parameters(config: ModelConfig) -> int:
    """Every weight of a decoder counted once; a tied head is the embedding."""
    family = config.family
    layer = layer_weights(config) + (4 if family.sandwich_norms else 2) * config.embed_dim
    if family.qkv_bias:
        layer += (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    if family.qk_norm:
        layer += 2 * config.head_dim
    embeddings = config.vocab_size * config.embed_dim * (1 if config.tie_embeddings else 2)
    return embeddings + config.num_layers * layer + config.embed_dim


def layers_flops(config: ModelConfig, tokens: int) -> float:
    """Forward pass of all layers' matrices over so many tokens."""
    return 2.0 * config.num_layers * tokens * layer_weights(config)


def attention_flops(config: ModelConfig, pairs: float) -> float:
    """Forward scores and weighted sums of so many pairs of positions, in all layers."""
    return 4.0 * config.num_layers * config.num_heads * config.head_dim * pairs


def head_flops(config: ModelConfig, positions: int) -> float:
    """Forward pass of the head at so many positions."""
    return 2.0 * positions * config.vocab_size * config.embed_dim


def visible_pairs(seq_length: int) -> float:
    """Pairs of positions in a row that the causal mask leaves; it hides the other `seq_length`**2.

    Sliding windows and packed segments hide more, which is not taken off.
    """
    return seq_length * (seq_length + 1) / 2


def forward_flops(config: ModelConfig, *, rows: int, seq_length: int, scored_length: int) -> float:
    """Operations that a forward pass needs.

    Args:
      config: Shape of the model.
      rows: Rows of the batch.
      seq_length: Positions of a row, padding included.
      scored_length: Positions of a row that reach the head.
    """
    return (
        layers_flops(config, rows * seq_length)
        + attention_flops(config, rows * visible_pairs(seq_length))
        + head_flops(config, rows * scored_length)
    )


def train_step_flops(
    config: ModelConfig, params: nnx.State, *, rows: int, seq_length: int, scored_length: int
) -> float:
    """Operations that an update needs, whatever is recomputed on the way.

    Each product of the forward pass has one in the backward pass for the gradient of its
    activations; attention has two, and so has a weight that is trained.

    Args:
      config: Shape of the model.
      params: What is trained; adapters count as the thin weights they are.
      rows: Rows of the batch.
      seq_length: Positions of a row, padding included.
      scored_length: Positions of a row that reach the head.
    """
    layers = layers_flops(config, rows * seq_length)
    attention = attention_flops(config, rows * visible_pairs(seq_length))
    head = head_flops(config, rows * scored_length)
    total = 2 * (layers + head) + 3 * attention
    for path, variable in nnx.to_flat_state(params):
        axes = variable.get_metadata()["axes"]
        if path[0] == "layers" and {"embed", "rank"} & set(axes):  # no norm and no bias
            total += 2.0 * variable.get_value().size * rows * seq_length
        elif path == (("embedding",) if config.tie_embeddings else ("lm_head",)):
            total += head
    return total
