"""Cuts along logical axes: what is kept is what was there, in every parameter."""

import dataclasses

import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of

from sentidistill_jax.models.slicing import slice_axes
from sentidistill_jax.sharding import make_mesh, state_shardings


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"fsdp": 2, "tensor": 4})


@pytest.fixture(scope="module")
def model(mesh):
    return decoder_of("llama_untied", mesh, remat="dots")


def arrays(model):
    return {
        ".".join(map(str, path)): np.asarray(variable.get_value())
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }


def sizes(model):
    return model.config.num_layers, model.config.num_heads // model.config.num_kv_heads


def test_full_widths_change_no_bit(model, mesh):
    config = model.config
    full = {
        "vocab": np.arange(config.vocab_size),
        "embed": np.arange(config.embed_dim),
        "mlp": np.tile(np.arange(config.mlp_dim), (config.num_layers, 1)),
        "kv_heads": np.arange(config.num_kv_heads),
    }
    same = slice_axes(model, full, mesh)
    assert (same.config, same.dtype, same.remat) == (config, model.dtype, "dots")
    before, after = arrays(model), arrays(same)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_every_axis_is_cut_everywhere(model, mesh):
    layers, group = sizes(model)
    embed, vocab = np.array([1, 4, 5]), np.array([0, 3])
    mlp = np.stack([np.array([layer, layer + 2]) for layer in range(layers)])
    kv = np.array([[layer % 2] for layer in range(layers)])
    gains = np.linspace(1, 2, layers + 1)
    kept = {"embed": embed, "vocab": vocab, "mlp": mlp, "kv_heads": kv}
    student = slice_axes(model, kept, mesh, norm_gains=gains)
    assert student.config == dataclasses.replace(
        model.config, vocab_size=2, embed_dim=3, mlp_dim=2, num_kv_heads=1, num_heads=group,
        rms_norm_eps=model.config.rms_norm_eps * model.config.embed_dim / 3,
    )  # fmt: skip
    old, new = arrays(model), arrays(student)
    np.testing.assert_array_equal(new["embedding"], old["embedding"][np.ix_(vocab, embed)])
    np.testing.assert_array_equal(new["lm_head"], old["lm_head"][np.ix_(vocab, embed)])
    np.testing.assert_allclose(new["final_norm.scale"], 2 * old["final_norm.scale"][embed])
    for layer in range(layers):
        heads = np.arange(group) + group * kv[layer]

        def of(name, arrays, layer=layer):
            return arrays[f"layers.{name}"][layer]

        for name in ("attention_norm.scale", "mlp_norm.scale"):
            np.testing.assert_allclose(
                of(name, new), gains[layer] * of(name, old)[embed], rtol=1e-6
            )
        for name, chosen in (("q_proj", heads), ("k_proj", kv[layer]), ("v_proj", kv[layer])):
            expected = of(f"attention.{name}", old)[np.ix_(embed, chosen)]
            np.testing.assert_array_equal(of(f"attention.{name}", new), expected)
        o_proj = of("attention.o_proj", old)[heads][..., embed]
        np.testing.assert_array_equal(of("attention.o_proj", new), o_proj)
        for name in ("gate_proj", "up_proj"):
            expected = of(f"mlp.{name}", old)[np.ix_(embed, mlp[layer])]
            np.testing.assert_array_equal(of(f"mlp.{name}", new), expected)
        down = of("mlp.down_proj", old)[np.ix_(mlp[layer], embed)]
        np.testing.assert_array_equal(of("mlp.down_proj", new), down)


def test_parts_lie_where_the_rules_say_and_the_rest_is_shared(model, mesh):
    student = slice_axes(model, {"mlp": np.arange(8)}, mesh)
    expected = dict(nnx.to_flat_state(state_shardings(nnx.state(student), mesh)))
    for path, variable in nnx.to_flat_state(nnx.state(student)):
        assert variable.get_value().sharding == expected[path].get_value(), path
    assert student.embedding.get_value() is model.embedding.get_value()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"head_dim": [0]}, "axis 'head_dim' cannot be cut"),
        ({"kv_heads": [9]}, "indices of kv_heads must be some of 0 to"),
        ({"embed": []}, "indices of embed must be"),
    ],
)
def test_what_is_not_there_is_refused(model, mesh, kept, message):
    with pytest.raises(ValueError, match=message):
        slice_axes(model, {axis: np.array(ids, int) for axis, ids in kept.items()}, mesh)
