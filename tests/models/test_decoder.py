"""Invariances of the decoder, and the product it is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of, golden, logits_and_gradients

from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.hf import hf_tensors
from sentidistill_jax.models.kv_cache import EMPTY, KVCache, SharedPrefix
from sentidistill_jax.models.matmul import einsum
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh

NAME = "llama_untied"


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def forward(mesh):
    """The jitted forward pass: keyword arguments of the decoder in, (logits, cache) out."""
    graphdef, state = nnx.split(decoder_of(NAME, mesh))

    @jax.jit
    def logits(tokens, positions, options):
        model = nnx.merge(graphdef, state)
        hidden, cache = model(tokens, positions, **options)
        return model.logits(hidden), cache

    return lambda tokens, positions, **options: logits(tokens, positions, options)


@pytest.fixture(scope="module")
def tokens():
    return golden(NAME)["tokens"]


@pytest.fixture(scope="module")
def config(mesh):
    return decoder_of(NAME, mesh).config


@pytest.fixture(scope="module")
def exact(mesh, tokens):
    """Logits, loss and gradients in float32 without rematerialisation."""
    return logits_and_gradients(decoder_of(NAME, mesh), tokens, mesh)


def _counting(tokens, start=0):
    return np.broadcast_to(start + np.arange(tokens.shape[1]), tokens.shape)


def test_packed_segments_do_not_see_each_other(forward, tokens):
    expected, _ = forward(tokens, _counting(tokens))
    packed = np.concatenate([tokens[0], tokens[1], np.zeros(4, np.int32)])[None]
    positions = np.concatenate([np.arange(12), np.arange(12), np.zeros(4, np.int32)])[None]
    segment_ids = np.repeat([1, 2, 0], [12, 12, 4])[None]
    got, _ = forward(packed, positions, segment_ids=segment_ids)
    np.testing.assert_allclose(got[0, :12], expected[0], atol=1e-5)
    np.testing.assert_allclose(got[0, 12:24], expected[1], atol=1e-5)


def test_a_later_token_changes_nothing_before_it(forward, tokens):
    before, _ = forward(tokens, _counting(tokens))
    changed = tokens.copy()
    changed[:, 7] += 1
    after, _ = forward(changed, _counting(tokens))
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.abs(before[:, 7:] - after[:, 7:]).max() > 0.1


def test_positions_matter_by_their_differences_only(forward, tokens):
    expected, _ = forward(tokens, _counting(tokens))
    moved, _ = forward(tokens, _counting(tokens, start=100))
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    spread, _ = forward(tokens, 2 * _counting(tokens))
    assert np.abs(spread - expected).max() > 0.1


def test_a_cache_filled_in_two_steps_equals_the_full_forward_pass(forward, tokens, config):
    expected, none = forward(tokens, _counting(tokens))
    assert none is None
    cache = KVCache.zeros(config, 2, 16)
    first, cache = forward(tokens[:, :8], _counting(tokens[:, :8]), cache=cache)
    rest, cache = forward(tokens[:, 8:], _counting(tokens[:, 8:], start=8), cache=cache)
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), expected, atol=1e-5)
    assert not np.asarray(cache.key[..., 12:, :]).any()  # slots that nothing was written to


def test_a_shared_prefix_equals_the_full_forward_pass(forward, tokens, config):
    both = tokens.copy()
    both[1, :5] = both[0, :5]
    expected, _ = forward(both, _counting(both))
    _, read = forward(both[:1, :5], _counting(both[:1, :5]), cache=KVCache.zeros(config, 1, 8))
    prefix = SharedPrefix(read.key, read.value, read.positions, read.used)
    rest, positions = both[:, 5:], _counting(both[:, 5:], start=5)
    got, _ = forward(rest, positions, prefix=prefix, cache=KVCache.zeros(config, 2, 9))
    np.testing.assert_allclose(got, expected[:, 5:], atol=1e-5)


def test_a_cache_goes_round_and_keeps_the_latest_tokens(forward, tokens, config):
    """A text that starts anywhere in the ring is read as one that starts at its first slot."""
    expected, _ = forward(tokens, _counting(tokens))
    cache = KVCache.zeros(config, 2, 12)
    earlier = np.full((2, 4), 3)
    for _ in range(2):  # another text, which nobody may see once it is let go
        _, cache = forward(earlier, _counting(earlier), cache=cache)
    cache = dataclasses.replace(
        cache, positions=jnp.full_like(cache.positions, EMPTY), reach=jnp.int32(0)
    )
    parts = []
    for start in range(0, 12, 4):
        part = tokens[:, start : start + 4]
        logits, cache = forward(part, _counting(part, start=start), cache=cache)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-5)
    assert int(cache.used) == 20 and int(cache.reach) == 12


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_rematerialisation_changes_no_gradient(remat, mesh, tokens, exact):
    _, _, gradients = logits_and_gradients(decoder_of(NAME, mesh, remat=remat), tokens, mesh)
    got = dict(hf_tensors(gradients))
    for name, value in hf_tensors(exact[2]):
        np.testing.assert_allclose(got[name], value, atol=1e-6, err_msg=name)


def test_bfloat16_rounds_activations_and_no_parameter_gradient(mesh, tokens, exact):
    model = decoder_of(NAME, mesh, dtype=jnp.bfloat16)
    rounded, _, gradients = logits_and_gradients(model, tokens, mesh)
    assert rounded.dtype == np.float32
    assert 1e-3 < np.abs(rounded - exact[0]).mean() < 0.05
    for name, gradient in hf_tensors(gradients):
        assert gradient.dtype == np.float32, name


def test_an_unknown_remat_policy_is_refused():
    with pytest.raises(ValueError, match=r"remat='all' must be one of \['dots', 'full', 'none'\]"):
        Decoder(PRESETS["tiny"], nnx.Rngs(0), remat="all")


@pytest.mark.parametrize("spec", ["bqe,ehd->bqhd", "bqhd,hde->bqe", "bhnd,bhkd->bhnk"])
def test_einsum_and_so_are_its_gradients(spec):
    sizes = dict(zip("bqehdnk", (2, 3, 5, 4, 6, 7, 8), strict=True))
    operands, result = spec.split("->")
    rng = np.random.default_rng(0)

    def random(part):
        return rng.normal(size=[sizes[letter] for letter in part]).astype(np.float32)

    left, right = (random(part) for part in operands.split(","))
    weights = random(result)
    got = jax.value_and_grad(lambda x, y: jnp.sum(einsum(spec, x, y) * weights), (0, 1))
    plain = jax.value_and_grad(lambda x, y: jnp.sum(jnp.einsum(spec, x, y) * weights), (0, 1))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        got(left, right),
        plain(left, right),
    )


def test_einsum_sums_bfloat16_operands_in_float32():
    ones = jnp.ones((1, 128, 1000), jnp.bfloat16)  # a CPU multiplies fewer rows in float32
    weight = jnp.full((1000, 1, 1), 1.001, jnp.float32)
    total = einsum("bqe,ehd->bqhd", ones, weight)
    # 1.001 is 1 in bfloat16, which cannot count beyond 256 by ones.
    assert total.dtype == jnp.float32 and float(total[0, 0, 0, 0]) == 1000
    gradient = jax.grad(lambda w: jnp.sum(einsum("bqe,ehd->bqhd", ones, w)))(weight)
    assert gradient.dtype == jnp.float32


@pytest.mark.parametrize(
    ("spec", "row", "matrix"),
    [("ne,ve->nv", (1, 8), (5, 8)), ("bqhd,hde->bqe", (1, 1, 2, 4), (2, 4, 5))],
)
def test_one_row_of_bfloat16_is_multiplied_as_two_on_a_cpu(spec, row, matrix):
    rng = np.random.default_rng(0)
    left, right = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in (row, matrix))
    result = einsum(spec, left, right)
    exact = np.einsum(spec, np.asarray(left, np.float32), np.asarray(right, np.float32))
    np.testing.assert_allclose(result, exact, atol=1e-5)
    program = jax.jit(einsum, static_argnums=0).lower(spec, left, right).as_text()
    (product,) = [line for line in program.splitlines() if "dot_general" in line]
    assert f"tensor<{'x'.join(map(str, (2, *row[1:])))}xbf16>" in product
