"""What one training step reads, and the words the project uses for the dims of its arrays.

batch  rows of packed sequences            seq     tokens of a row
scored completion positions of a row       k       kept teacher entries of a position
labels label words of an answer            vocab, embed, heads, kv_heads, head_dim, mlp, layers
"""

import dataclasses

import jax
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed sequences with the teacher's targets at their completion positions only.

    Rows hold a static number of scored positions, so the head and the loss never touch the prompt.
    """

    tokens: Int[Array, "batch seq"]
    positions: Int[Array, "batch seq"]  # restart at 0 in every segment
    segment_ids: Int[Array, "batch seq"]  # 0 = padding, 1.. = packed sequence
    scored: Int[Array, "batch scored"]  # index in the row of the token whose successor is scored
    targets: Int[Array, "batch scored"]  # that successor
    loss_mask: Float[Array, "batch scored"]  # 1 = real, 0 = padding
    loss_weights: Float[Array, "batch scored"]  # factor of its loss; 0 = padding
    kind_ids: Int[Array, "batch scored"]  # perspective or task
    top_k_ids: Int[Array, "batch scored k"]
    top_k_logprobs: Float[Array, "batch scored k"]  # full vocabulary, temperature 1; -inf = padding
    tail_logprobs: Float[Array, "batch scored temperatures"]  # at those of the objective
    label_ids: Int[Array, "batch scored labels"]  # -1 = padding; all -1 off answer positions
    label_logprobs: Float[Array, "batch scored labels"]  # normalized over the labels
