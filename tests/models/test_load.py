"""Models by name, from a GGUF file and from a directory."""

import json

import jax
import pytest
from gguf_writer import write_gguf
from goldens import decoder_of

from sentidistill_jax.models import load
from sentidistill_jax.models.hf import write_hf_directory
from sentidistill_jax.models.load import load_model, tokenizer_fingerprint
from sentidistill_jax.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


def test_a_gguf_file_and_the_directory_written_from_it_are_one_model(mesh, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", decoder_of("llama_tied", mesh))
    model = load_model(str(path), mesh, remat="full")
    assert model.source == str(path)
    assert model.decoder.remat == "full"
    assert model.tokenizer("tht")["input_ids"] == [2, 0]

    directory = tmp_path / "written"
    write_hf_directory(model.decoder, directory)
    model.tokenizer.save_pretrained(directory)
    again = load_model(str(directory), mesh)
    assert again.decoder.config == model.decoder.config
    assert tokenizer_fingerprint(again.tokenizer) == tokenizer_fingerprint(model.tokenizer)


def test_a_fingerprint_is_that_of_the_weights(mesh, tmp_path):
    def fingerprint(name):
        return load_model(str(write_gguf(tmp_path / "model.gguf", decoder_of(name, mesh))), mesh)

    tied, again, untied = map(fingerprint, ("llama_tied", "llama_tied", "llama_untied"))
    assert tied.fingerprint == again.fingerprint != untied.fingerprint


def test_a_directory_without_tokenizer_fails_before_its_weights_are_read(
    mesh, tmp_path, monkeypatch
):
    write_hf_directory(decoder_of("llama_tied", mesh), tmp_path)
    monkeypatch.setattr(load, "load_decoder", None)
    with pytest.raises(ValueError, match="has no tokenizer that can be read .*; copy") as error:
        load_model(str(tmp_path), mesh)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("auto_map", [["code.Toy", None], {"AutoTokenizer": ["code.Toy", None]}])
def test_code_that_comes_with_a_model_is_never_run(mesh, tmp_path, monkeypatch, auto_map):
    directory = tmp_path / "model"
    model = load_model(str(write_gguf(tmp_path / "m.gguf", decoder_of("llama_tied", mesh))), mesh)
    write_hf_directory(model.decoder, directory, fields={"auto_map": {"AutoConfig": "code.Config"}})
    model.tokenizer.save_pretrained(directory)
    file = directory / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"auto_map": auto_map, "tokenizer_class": "Toy"}))
    (directory / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    try:
        load_model(str(directory), mesh)
    except ValueError as error:
        assert "has no tokenizer that can be read" in str(error)
    assert not (tmp_path / "ran").exists()


def test_a_source_that_is_nothing_is_refused(mesh):
    with pytest.raises(FileNotFoundError, match=r"model 'nowhere' is none of the embedded models"):
        load_model("nowhere", mesh)
