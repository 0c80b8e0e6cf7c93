"""An exported directory is the model, whole, or not there."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
import transformers
from flax import nnx
from helpers import arrays_of, byte_tokenizer, random_model

from sentidistill_jax.export import export
from sentidistill_jax.inference.generation_settings import generation_settings
from sentidistill_jax.models.load import load_model, tokenizer_fingerprint
from sentidistill_jax.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def model(mesh):
    return random_model(mesh, byte_tokenizer(["positive"]))


def parameters(model):
    return arrays_of(nnx.state(model.decoder))


def test_it_loads_as_the_same_model(model, mesh, tmp_path):
    export(model, tmp_path / "new" / "student")
    loaded = load_model(str(tmp_path / "new" / "student"), mesh)
    assert loaded.decoder.config == model.decoder.config
    for name, value in parameters(model).items():
        np.testing.assert_array_equal(parameters(loaded)[name], value, err_msg=name)
    text = "A positive, quiet\ntreasure: 12 €"
    assert loaded.tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["student"]


def test_programs_that_read_config_json_alone_know_the_special_tokens(model, mesh, tmp_path):
    chat = dataclasses.replace(model, generation={"eos_token_id": [3, 5]})
    export(chat, tmp_path / "one")
    again = load_model(str(tmp_path / "one"), mesh)
    export(again, tmp_path / "two")  # ids outlive an export of an export
    for name in ("one", "two"):
        config = transformers.AutoConfig.from_pretrained(tmp_path / name)
        assert (config.eos_token_id, config.pad_token_id) == ([3, 5], model.tokenizer.pad_token_id)
        assert config.bos_token_id is None


def test_a_tokenizer_that_was_exported_keeps_its_fingerprint(model, mesh, tmp_path):
    """Or a student could not be trained further on the cache of its teacher."""
    export(model, tmp_path / "one")
    once = load_model(str(tmp_path / "one"), mesh)
    assert tokenizer_fingerprint(once.tokenizer) == tokenizer_fingerprint(model.tokenizer)


def test_bfloat16_is_rounded_and_half_as_large(model, mesh, tmp_path):
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        export(model, tmp_path / dtype, dtype=dtype)
        sizes[dtype] = (tmp_path / dtype / "model.safetensors").stat().st_size
    assert sizes["bfloat16"] < 0.6 * sizes["float32"]
    assert json.loads((tmp_path / "bfloat16" / "config.json").read_text())["torch_dtype"] == (
        "bfloat16"
    )
    loaded = parameters(load_model(str(tmp_path / "bfloat16"), mesh))
    for name, value in parameters(model).items():
        rounded = value.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(loaded[name], rounded, err_msg=name)


def test_an_older_export_is_replaced_as_a_whole(model, tmp_path):
    directory = tmp_path / "student"
    directory.mkdir()
    (directory / "model-00002-of-00002.safetensors").write_text("of another model")
    export(model, directory)
    assert "model-00002-of-00002.safetensors" not in {path.name for path in directory.iterdir()}


def test_an_export_that_fails_leaves_the_older_one(model, tmp_path):
    directory = tmp_path / "student"
    export(model, directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ValueError, match="dtype='int8' must be one of"):
        export(model, directory, dtype="int8")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_what_the_source_said_about_generation_stays(model, mesh, tmp_path):
    said = {"repetition_penalty": 1.1, "eos_token_id": [3, 5], "bos_token_id": 400, "top_p": 0.9}
    export(dataclasses.replace(model, generation=said), tmp_path / "student")
    written = load_model(str(tmp_path / "student"), mesh).generation
    # Ends of turns cannot be seen from the tokenizer; other ids are the tokenizer's business.
    assert written == {
        "repetition_penalty": 1.1, "top_p": 0.9, "eos_token_id": [3, 5],
        **{f"{name}_token_id": getattr(model.tokenizer, f"{name}_token_id")
           for name in ("bos", "pad") if getattr(model.tokenizer, f"{name}_token_id") is not None},
    }  # fmt: skip
    settings = generation_settings(written, model.tokenizer)
    assert settings.repetition_penalty == 1.1
    assert set(settings.stop_ids) == {3, 5, model.tokenizer.eos_token_id} - {None}


def test_others_may_read_it_and_config_knows_the_special_tokens(model, tmp_path):
    directory = tmp_path / "student"
    export(model, directory)
    assert directory.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o644}
    config = json.loads((directory / "config.json").read_text())
    assert config["pad_token_id"] == model.tokenizer.pad_token_id


def test_a_card_is_written_beside_the_weights(model, tmp_path):
    export(model, tmp_path / "student", files={"README.md": "# A student\n"})
    assert (tmp_path / "student" / "README.md").read_text() == "# A student\n"
