"""Pruned decoders: what is kept is what was there, in every parameter."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of, golden, logits_and_gradients

from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.hf import hf_tensors, read_hf_directory, write_hf_directory
from sentidistill_jax.models.pruning import prune_depth, prune_width
from sentidistill_jax.sharding import make_mesh, state_shardings


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"fsdp": 2, "tensor": 4})


@pytest.fixture(scope="module")
def model(mesh):
    return decoder_of("llama_untied", mesh, remat="dots")


@pytest.mark.parametrize("layers", [(0, 2), (2, 0), (1, 1, 1, 1), [0, 1, 2]])
def test_kept_layers_are_those_of_the_model_and_the_rest_is_unchanged(model, layers):
    student = prune_depth(model, layers)
    assert student.config == dataclasses.replace(model.config, num_layers=len(layers))
    assert (student.dtype, student.remat) == (model.dtype, "dots")
    before, after = dict(hf_tensors(model)), dict(hf_tensors(student))
    assert len(after) == 3 + 9 * len(layers)
    for name, value in after.items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            name = f"model.layers.{layers[int(layer)]}.{rest}"
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_student_has_the_placements_of_its_model(model):
    def placements(decoder):
        flat = nnx.to_flat_state(nnx.state(decoder))
        return {path: variable.get_value().sharding for path, variable in flat}

    assert placements(prune_depth(model, (0, 2))) == placements(model)


@pytest.mark.parametrize("layers", [(), (3,), (-1, 0), (0, 1, 2, 3)])
def test_layers_that_do_not_exist_are_refused(model, layers):
    with pytest.raises(ValueError, match=r"student\.layers=.* must name layers from 0 to 2"):
        prune_depth(model, layers)


def test_what_is_not_a_layer_is_shared_with_the_model(model):
    student = prune_depth(model, (0,))
    assert student.embedding.get_value() is model.embedding.get_value()
    assert student.lm_head.get_value() is model.lm_head.get_value()


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
    same = prune_width(model, full, mesh)
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
    student = prune_width(model, kept, mesh, norm_gains=gains)
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


def with_zeros(model, *, embed, mlp, kv_heads):
    """The model with the channels and, in each layer, the head switched off."""
    group = sizes(model)[1]
    graphdef, state = nnx.split(model)

    def off(path, variable):
        value = variable.get_value()
        if variable.get_metadata()["axes"][-1] == "embed":
            value = value.at[..., embed].set(0)  # nothing writes to the channel
        for layer, head in enumerate(kv_heads):
            if path[-1] == "o_proj":
                value = value.at[layer, head * group : (head + 1) * group].set(0)
            if path[-1] == "down_proj":
                value = value.at[layer, mlp + layer].set(0)
        return variable.replace(value)

    flat = [(path, off(path, variable)) for path, variable in nnx.to_flat_state(state)]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma2", "gemma3"])
def test_cutting_what_is_zero_leaves_the_logits_of_every_family(name, tmp_path):
    mesh = make_mesh({}, jax.devices()[:1])
    teacher = decoder_of(name, mesh)
    config, tokens = teacher.config, golden(name)["tokens"]
    embed, mlp = np.array([3, 10, 11, 12]), np.array([0, 6])
    if config.family.scaled_embedding:
        embed = embed[:0]
    heads = [layer % config.num_kv_heads for layer in range(config.num_layers)]
    zeroed = with_zeros(teacher, embed=embed, mlp=mlp, kv_heads=heads)
    expected, _, _ = logits_and_gradients(zeroed, tokens, mesh)

    def rest(size, gone):
        return np.setdiff1d(np.arange(size), gone)

    kept = {
        "mlp": np.stack([rest(config.mlp_dim, mlp + layer) for layer in range(len(heads))]),
        "kv_heads": np.stack([rest(config.num_kv_heads, head) for head in heads]),
    }
    gains = None
    if len(embed):
        kept["embed"] = rest(config.embed_dim, embed)
        gain = np.sqrt(config.embed_dim / len(kept["embed"]))
        gains = np.full((config.num_layers + 1,), gain)
    student = prune_width(zeroed, kept, mesh, norm_gains=gains)
    assert num_parameters(student.config) < num_parameters(config)
    got, _, _ = logits_and_gradients(student, tokens, mesh)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    before, _, _ = logits_and_gradients(teacher, tokens, mesh)
    assert np.abs(expected - before).max() > 0.01  # the zeros were not idle before
    write_hf_directory(student, tmp_path)
    assert read_hf_directory(tmp_path)[0] == student.config


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_channels_of_a_scaled_stream_are_not_cut(name, mesh):
    with pytest.raises(ValueError, match="student.slice.embed=3 cannot be done: .* of gemma"):
        prune_width(decoder_of(name, mesh), {"embed": np.arange(3)}, mesh)


def test_parts_lie_where_the_rules_say_and_the_rest_is_shared(model, mesh):
    student = prune_width(model, {"mlp": np.arange(8)}, mesh)
    expected = dict(nnx.to_flat_state(state_shardings(nnx.state(student), mesh)))
    for path, variable in nnx.to_flat_state(nnx.state(student)):
        assert variable.get_value().sharding == expected[path].get_value(), path
    assert student.embedding.get_value() is model.embedding.get_value()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"head_dim": [0]}, "axis 'head_dim' cannot be cut"),
        ({"kv_heads": [9]}, "indices of kv_heads must be some of 0 to"),
        ({"embed": []}, "embed=0 must be 1 to 24"),
    ],
)
def test_what_is_not_there_is_refused(model, mesh, kept, message):
    with pytest.raises(ValueError, match=message):
        prune_width(model, {axis: np.array(ids, int) for axis, ids in kept.items()}, mesh)
