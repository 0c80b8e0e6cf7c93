import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_oracle import assert_close, cached_teacher, random_normal

from benchmarks.distill_loss import rematerialized_distill_loss
from sentidistill_jax.sharding import MESH_AXES, make_mesh
from sentidistill_jax.training import losses
from sentidistill_jax.training.distill_loss import (
    DistillTargets,
    LabelTargets,
    LossTerms,
    distill_loss,
)
from sentidistill_jax.training.fused_head import default_chunk_rows, fused_distill_loss

ROWS, VOCAB, EMBED, K, LABELS = 48, 64, 12, 5, 3


def example(rows=ROWS, vocab=VOCAB, embed=EMBED):
    """Hidden states, head, targets and weights; every fifth row is scored by no term."""
    rng = np.random.default_rng(0)
    targets = DistillTargets(
        jnp.asarray(rng.integers(0, vocab, rows), jnp.int32),
        cached_teacher(random_normal(1, rows, vocab, scale=3.0), K),
        LabelTargets(
            jnp.asarray(rng.integers(0, vocab, (rows, LABELS)), jnp.int32),
            jax.nn.log_softmax(jnp.asarray(random_normal(2, rows, LABELS))),
        ),
    )
    scored = np.arange(rows) % 5 > 0
    weights = LossTerms(*jnp.asarray(rng.uniform(0.5, 1, (3, rows)) * scored, jnp.float32))
    return random_normal(3, rows, embed), random_normal(4, vocab, embed), targets, weights


def loss_and_gradients(loss, **options):
    """A jitted function of hidden, head, targets and weights."""
    return jax.jit(
        jax.value_and_grad(functools.partial(loss, **options), argnums=(0, 1), has_aux=True)
    )


def assert_equal(got, expected, tolerance=1e-5):
    jax.tree.map(functools.partial(assert_close, tolerance=tolerance), got, expected)


def compiled_text(function, *args):
    """The optimized program, as the compiler prints it."""
    # With the emitters that are the default; those of conftest.py write a scatter as a loop.
    options = {"xla_cpu_use_fusion_emitters": True}
    return str(function.lower(*args).compile(options).as_text())


def array_sizes(program):
    """Number of elements of every array in a compiled program."""
    shapes = re.findall(r"\b[a-z]+\d+\w*\[([\d,]+)\]", program)
    return {math.prod(map(int, shape.split(","))) for shape in shapes}


each_chunked_form = pytest.mark.parametrize(
    "loss", [fused_distill_loss, rematerialized_distill_loss]
)


class TestEqualsThePlainForm:
    def assert_equal_to_plain(self, loss, chunk_rows, args, **options):
        got = loss_and_gradients(loss, chunk_rows=chunk_rows, **options)(*args)
        assert_equal(got, loss_and_gradients(distill_loss, **options)(*args))

    @pytest.mark.parametrize("chunk_rows", [1, 7, ROWS])
    def test_whatever_the_chunks(self, chunk_rows):
        self.assert_equal_to_plain(fused_distill_loss, chunk_rows, example())

    @pytest.mark.parametrize(
        "options",
        [
            {"divergence": losses.reverse_kl},
            {"divergence": functools.partial(losses.jsd, beta=0.3), "temperature": 2.0},
            {"logit_softcap": 3.0},
        ],
    )
    def test_whatever_the_options(self, options):
        self.assert_equal_to_plain(fused_distill_loss, 16, example(), **options)

    def test_rematerialized(self):
        self.assert_equal_to_plain(rematerialized_distill_loss, 7, example(), temperature=2.0)

    def test_cross_entropy_alone(self):
        hidden, head, targets, weights = example()
        args = hidden, head, DistillTargets(targets.tokens), LossTerms(weights.ce)
        self.assert_equal_to_plain(fused_distill_loss, 16, args)

    def test_traced_temperature_and_scaled_loss_of_a_tied_embedding(self):
        _, embedding, targets, weights = example()

        def loss(distill_loss, embedding, temperature):
            hidden = jnp.tanh(embedding[targets.tokens])
            value, _ = distill_loss(hidden, embedding, targets, weights, temperature=temperature)
            return temperature**2 * value

        gradient = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
        fused = functools.partial(fused_distill_loss, chunk_rows=16)
        assert_close(gradient(fused, embedding, 3.0), gradient(distill_loss, embedding, 3.0))


def test_rows_of_weight_zero_contribute_nothing():
    hidden, head, targets, weights = example()
    scored = weights.ce > 0
    grad = loss_and_gradients(fused_distill_loss, chunk_rows=16)
    (loss, _), (hidden_gradient, head_gradient) = grad(hidden, head, targets, weights)
    subset = jax.tree.map(lambda array: array[scored], (hidden, targets, weights))
    (subset_loss, _), subset_gradients = grad(subset[0], head, *subset[1:])
    assert_equal((loss, head_gradient), (subset_loss, subset_gradients[1]))
    assert not hidden_gradient[~scored].any()


class TestBfloat16:
    def test_gradients_are_within_a_percent_and_the_head_sums_in_float32(self):
        hidden, head, targets, weights = example(rows=2048)
        hidden, rounded_head = (array.astype(jnp.bfloat16) for array in (hidden, head))
        fused = loss_and_gradients(fused_distill_loss, chunk_rows=8)
        (loss, _), gradients = fused(hidden, head, targets, weights)
        assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.float32]
        (expected_loss, _), expected = loss_and_gradients(distill_loss)(
            hidden.astype(jnp.float32), rounded_head.astype(jnp.float32), targets, weights
        )
        assert abs(loss - expected_loss) < 1e-5 * expected_loss
        for got, wanted in zip(gradients, expected, strict=True):
            assert jnp.linalg.norm(got.astype(jnp.float32) - wanted) < 0.01 * jnp.linalg.norm(
                wanted
            )

    def test_a_bfloat16_head_gets_a_bfloat16_gradient(self):
        hidden, head, targets, weights = example()
        head = head.astype(jnp.bfloat16)
        _, gradients = loss_and_gradients(fused_distill_loss, chunk_rows=8)(
            hidden.astype(jnp.bfloat16), head, targets, weights
        )
        assert gradients[1].dtype == jnp.bfloat16


class TestCompiledProgram:
    args = example(rows=96, vocab=512, embed=16)

    def program(self, loss, **options):
        return compiled_text(loss_and_gradients(loss, **options), *self.args)

    @each_chunked_form
    @pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "logit_softcap": 30.0}])
    def test_no_array_of_all_logits(self, loss, options):
        assert max(array_sizes(self.program(loss, chunk_rows=8, **options))) < 96 * 512

    def test_the_plain_form_has_one(self):
        assert 96 * 512 in array_sizes(self.program(distill_loss))

    def test_three_products_for_gradients_and_one_without(self):
        without_gradients = jax.jit(functools.partial(fused_distill_loss, chunk_rows=8))
        programs = (
            self.program(fused_distill_loss, chunk_rows=8),
            self.program(rematerialized_distill_loss, chunk_rows=8),
            compiled_text(without_gradients, *self.args),
        )
        assert [program.count(" dot(") for program in programs] == [3, 4, 1]

    def test_no_loop_when_one_chunk_holds_all_rows(self):
        assert " while(" in self.program(fused_distill_loss, chunk_rows=8)
        assert " while(" not in self.program(fused_distill_loss, chunk_rows=96)


@pytest.mark.parametrize(
    ("rows", "embed", "expected"), [(500, 576, 500), (576, 576, 256), (16384, 2048, 1024)]
)
def test_default_chunk_rows(rows, embed, expected):
    assert default_chunk_rows(rows, embed) == expected


class TestSharded:
    @pytest.mark.parametrize("shape", [(1, 1, 8), (2, 2, 2), (4, 2, 1)])
    @pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "logit_softcap": 3.0}])
    def test_equals_the_plain_form(self, shape, options):
        mesh = make_mesh(dict(zip(MESH_AXES, shape, strict=True)))
        args = example()
        by_row, by_vocab = (jax.NamedSharding(mesh, jax.P(x)) for x in (("data", "fsdp"), "tensor"))
        sharded = jax.device_put(args, (by_row, by_vocab, by_row, by_row))
        fused = loss_and_gradients(fused_distill_loss, mesh=mesh, chunk_rows=5, **options)
        got = fused(*sharded)
        assert_equal(jax.device_get(got), loss_and_gradients(distill_loss, **options)(*args))
        hidden_gradient, head_gradient = got[1]
        assert hidden_gradient.sharding.is_equivalent_to(by_row, 2)
        assert head_gradient.sharding.is_equivalent_to(by_vocab, 2)

    def test_no_device_holds_its_rows_logits(self):
        mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
        args = example(rows=4 * 96, vocab=2 * 512, embed=16)
        fused = loss_and_gradients(fused_distill_loss, mesh=mesh, chunk_rows=8)
        assert max(array_sizes(compiled_text(fused, *args))) < 96 * 512

    @pytest.mark.parametrize(
        ("rows", "vocab", "message"),
        [
            (46, 64, r"rows=46 must be a multiple of 4 \(mesh axes data x fsdp\); pad to 48."),
            (48, 63, r"vocab=63 must be a multiple of 2 \(mesh axes tensor\); pad to 64."),
        ],
    )
    def test_mesh_must_divide_rows_and_vocabulary(self, rows, vocab, message):
        with pytest.raises(ValueError, match=message):
            fused_distill_loss(
                *example(rows, vocab), mesh=make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
            )
