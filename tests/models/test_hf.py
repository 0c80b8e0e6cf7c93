"""Hugging Face directories in and out, and what is refused."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from goldens import GOLDEN, NAMES, decoder_of
from safetensors.numpy import load_file, save_file

from sentidistill_jax.models.hf import (
    load_decoder,
    read_hf_directory,
    weight_files,
    write_hf_directory,
)
from sentidistill_jax.models.hf_config import config_from_hf, config_to_hf
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


@pytest.mark.parametrize(
    ("name", "dtype"), [("llama_tied", "bfloat16"), ("llama_untied", "float32")]
)
def test_what_is_read_is_written_bit_for_bit(name, dtype, mesh, tmp_path):
    write_hf_directory(decoder_of(name, mesh), tmp_path, dtype=dtype)
    stored, written = _tensors(GOLDEN / name), _tensors(tmp_path)
    assert written.keys() == stored.keys()
    for tensor, value in stored.items():
        assert value.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
        assert written[tensor].dtype == value.dtype
        assert written[tensor].tobytes() == value.tobytes()
    assert read_hf_directory(tmp_path)[0] == read_hf_directory(GOLDEN / name)[0]


def test_the_goldens_cover_one_file_and_several():
    assert [len(weight_files(GOLDEN / name)) for name in NAMES] == [1, 3]


def test_a_tied_head_that_is_stored_a_second_time_is_read_once(mesh, tmp_path):
    shutil.copytree(GOLDEN / "llama_tied", tmp_path, dirs_exist_ok=True)
    tensors = _tensors(tmp_path)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    config, readers = read_hf_directory(tmp_path)
    assert not hasattr(load_decoder(config, readers, mesh), "lm_head")


def _load(directory, mesh, **changes):
    config, tensors = read_hf_directory(directory)
    load_decoder(config, {**tensors, **changes}, mesh)


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
        ({"model_type": "mamba"}, r"model_type='mamba', expected 'llama'"),
        ({"hidden_act": "gelu"}, r"hidden_act='gelu', expected 'silu'"),
        ({"attention_bias": True}, r"attention_bias=True, expected False"),
        ({"rope_scaling": {"rope_type": "llama3"}, "rope_parameters": None}, r"rope_type='llama3'"),
        ({"rope_scaling": {"type": "linear"}, "rope_parameters": None}, r"rope_type='linear'"),
        ({"num_attention_heads": 5}, r"num_heads=5 must be a multiple of num_kv_heads=3"),
        ({"head_dim": 7}, r"head_dim=7 must be even"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused(directory, change, message):
    config = json.loads((directory / "config.json").read_text()) | change
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
    (directory / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json not found"):
        read_hf_directory(directory)


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_a_config_survives_its_json(config):
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config)))) == config


def test_the_parameter_count_is_that_of_the_files(mesh):
    for name in NAMES:
        total = sum(tensor.size for tensor in _tensors(GOLDEN / name).values())
        assert decoder_of(name, mesh).config.num_parameters == total


def test_another_dtype_to_write_is_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=r"dtype='float16' must be one of \['bfloat16', 'float32"):
        write_hf_directory(decoder_of("llama_tied", mesh), tmp_path, dtype="float16")
