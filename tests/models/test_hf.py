"""Hugging Face directories in and out, and what is refused."""

import dataclasses
import json
import shutil
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from goldens import GOLDEN, NAMES, decoder_of
from safetensors.numpy import load_file, save_file

from sentidistill_jax.models.config_files import config_from_hf, config_to_hf
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.hf import (
    load_decoder,
    read_hf_directory,
    weight_files,
    write_hf_directory,
)
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture
def directory(tmp_path):
    """A copy of a model in several files, to damage."""
    return shutil.copytree(GOLDEN / "llama_untied", tmp_path / "model")


def _tensors(directory):
    return {k: v for file in weight_files(directory) for k, v in load_file(file).items()}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_written_bit_for_bit(name, mesh, tmp_path):
    tied = decoder_of(name, mesh).config.tie_embeddings
    dtype = "bfloat16" if tied else "float32"  # as the goldens are stored
    write_hf_directory(decoder_of(name, mesh), tmp_path, dtype=dtype)
    stored, written = _tensors(GOLDEN / name), _tensors(tmp_path)
    assert written.keys() == stored.keys()
    for tensor, value in stored.items():
        assert value.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
        assert written[tensor].dtype == value.dtype
        assert written[tensor].tobytes() == value.tobytes()
    assert read_hf_directory(tmp_path)[0] == read_hf_directory(GOLDEN / name)[0]


def test_the_goldens_cover_one_file_and_several():
    assert {len(weight_files(GOLDEN / name)) for name in NAMES} == {1, 3, 6}


def test_a_tied_head_that_is_stored_a_second_time_is_read_once(mesh, tmp_path):
    shutil.copytree(GOLDEN / "llama_tied", tmp_path, dirs_exist_ok=True)
    tensors = _tensors(tmp_path)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    config, readers = read_hf_directory(tmp_path)
    assert not hasattr(load_decoder(config, readers, mesh), "lm_head")


def _load(directory, mesh, **changes):
    config, tensors = read_hf_directory(directory)
    return load_decoder(config, {**tensors, **changes}, mesh)


def test_a_missing_tensor_is_named(directory, mesh):
    config, tensors = read_hf_directory(directory)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(ValueError, match=r"lack 1 tensors.*'model\.layers\.1\.mlp\.up_proj"):
        load_decoder(config, tensors, mesh)


def test_an_extra_tensor_is_named(directory, mesh):
    with pytest.raises(ValueError, match=r"1 tensors.*not use.*'model\.layers\.3\.bias'"):
        _load(directory, mesh, **{"model.layers.3.bias": lambda: np.zeros(3)})


def test_a_tensor_of_the_wrong_shape_is_named_though_its_size_is_right(directory, mesh):
    name = "model.layers.0.self_attn.k_proj.weight"
    with pytest.raises(ValueError, match=r"k_proj.weight' has shape \(12, 48\), expected \(24, 24"):
        _load(directory, mesh, **{name: lambda: np.zeros((12, 48))})


def test_a_transposed_matrix_is_refused(directory, mesh):
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(ValueError, match=r"has shape \(24, 40\), expected \(40, 24\)"):
        _load(directory, mesh, **{name: lambda: np.zeros((24, 40))})


@pytest.mark.parametrize("kept", [0, 4, 100, 18_000])
def test_a_truncated_file_is_named(directory, mesh, kept):
    file = directory / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model-00003-of-00003.safetensors is not a whole"):
        _load(directory, mesh)


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "null",
        "{}",
        '{"weight_map": ["model.safetensors"]}',
        '{"weight_map": {"lm_head.weight": 3}}',
        '{"weight_map": {"lm_head.weight": "../model.safetensors"}}',
        '{"weight_map": {"lm_head.weight": "/etc/model.safetensors"}}',
        "[" * 100_000,
    ],
)
def test_a_malformed_index_and_one_that_leaves_its_directory_are_refused(directory, index):
    (directory / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"index\.json .*; copy it again\.$"):
        weight_files(directory)


def test_frequencies_that_llama_2_files_store_are_passed_over(directory, mesh):
    file = weight_files(directory)[0]
    before = jax.tree.leaves(nnx.state(_load(directory, mesh)))
    frequencies = np.ones(4, np.float32)
    tensors = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": frequencies for i in range(2)}
    save_file(load_file(file) | tensors, file)
    after = jax.tree.leaves(nnx.state(_load(directory, mesh)))
    assert before and len(before) == len(after)
    assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(directory, mesh, value):
    file = weight_files(directory)[0]
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name].reshape(-1)[-1] = value
    save_file(tensors, file)
    with pytest.raises(ValueError, match=f"tensor '{name}' holds numbers that are not finite"):
        _load(directory, mesh)


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_a_gemma_whose_layers_are_all_global_keeps_the_window_that_transformers_asks_for(name):
    config = read_hf_directory(GOLDEN / name)[0]
    layers = [at for at, slides in enumerate(config.sliding_layers) if not slides]
    once = config_to_hf(config.with_layers(layers[:1]))
    again = config_to_hf(config_from_hf(once))  # an export of an export
    assert once == again and again["sliding_window"] == config.sliding_window is not None


def test_a_missing_file_is_named(directory):
    (directory / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00003.safetensors not found"):
        read_hf_directory(directory)


def test_files_outside_the_index_are_not_read(directory):
    expected = read_hf_directory(directory)[1].keys()
    save_file({"optimizer": np.zeros(3)}, directory / "optimizer.safetensors")
    assert read_hf_directory(directory)[1].keys() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, r"model_type='mamba', expected one of \['gemma2', 'gemma3_text"),
        ({"hidden_act": "gelu"}, r"hidden_act='gelu', expected 'silu'"),
        ({"attention_bias": True}, r"attention_bias=True, expected False"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            r"rope_type='dynamic', expected one",
        ),
        ({"rope_scaling": {"rope_type": "llama3"}}, r"config\.json is not accepted by transf"),
        ({"hidden_size": 25}, r"not accepted by transformers: .*hidden size"),
        ({"num_key_value_heads": 0}, r"must be a multiple of num_kv_heads=0"),
        ({"num_attention_heads": 4}, r"num_heads=4 must be a multiple of num_kv_heads=3"),
        ({"head_dim": 7}, r"not accepted by transformers: .*even rotary dimension"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused(directory, change, message):
    config = json.loads((directory / "config.json").read_text()) | change
    if "rope_scaling" in change:
        del config["rope_parameters"]
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_hf_directory(directory)


def test_a_config_without_a_field_or_no_json_at_all_is_named(directory):
    config = json.loads((directory / "config.json").read_text())
    del config["intermediate_size"]
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json lacks the field 'intermediate_size'"):
        read_hf_directory(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_hf_directory(directory)
    (directory / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json holds list, expected an object"):
        read_hf_directory(directory)
    (directory / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json not found"):
        read_hf_directory(directory)


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_a_config_survives_its_json(config):
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config)))) == config


def test_a_model_in_many_files_is_the_same_model(mesh, tmp_path):
    model = decoder_of("gemma3", mesh)
    write_hf_directory(model, tmp_path, shard_bytes=20_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(weight_files(tmp_path)) > 3
    assert index["metadata"]["total_size"] == 4 * num_parameters(model.config)
    assert {name: file.name for file in weight_files(tmp_path) for name in load_file(file)} == (
        index["weight_map"]
    )
    for name, tensor in _tensors(GOLDEN / "gemma3").items():
        np.testing.assert_array_equal(_tensors(tmp_path)[name], tensor.astype(np.float32))


def test_loading_holds_about_one_tensor_on_the_host(tmp_path):
    """A model of 12 MiB whose largest tensor takes 0.75 MiB, on eight devices."""
    config = dataclasses.replace(
        PRESETS["tiny"], vocab_size=768, embed_dim=256, mlp_dim=768, num_layers=16, num_heads=8,
        num_kv_heads=2, head_dim=16,
    )  # fmt: skip
    mesh = make_mesh({"fsdp": 4, "tensor": 2})
    write_hf_directory(Decoder(config, nnx.Rngs(0)), tmp_path, dtype="float32")
    _load(tmp_path, mesh)  # compiles
    largest = max(tensor.nbytes for tensor in _tensors(tmp_path).values())
    total = sum(file.stat().st_size for file in weight_files(tmp_path))
    tracemalloc.start()
    try:
        _load(tmp_path, mesh)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 12 * largest
    assert largest < peak < 4 * largest


def test_weights_in_integers_are_refused(directory, mesh):
    tensors = _tensors(directory) | {"model.norm.weight": np.ones(24, np.int8)}
    (directory / "model.safetensors.index.json").unlink()
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"'model\.norm\.weight' of .* has dtype I8, expected one"):
        _load(directory, mesh)


def test_parameters_may_be_bfloat16(mesh):
    config, tensors = read_hf_directory(GOLDEN / "qwen2")
    model = load_decoder(config, tensors, mesh, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("bfloat16")}


def test_another_dtype_to_write_is_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=r"dtype='float16' must be one of \['bfloat16', 'float32"):
        write_hf_directory(decoder_of("llama_tied", mesh), tmp_path, dtype="float16")
