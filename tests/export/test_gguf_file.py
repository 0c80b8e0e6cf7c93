"""A GGUF file that was exported is the model: as it is read here, and as llama.cpp runs it."""

import dataclasses
import json
import urllib.request

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import byte_tokenizer, random_model
from llama_server import free_port, llama_server, server_python

from sentidistill_jax.export import export_gguf
from sentidistill_jax.export.gguf_tokenizer import tokenizer_fields
from sentidistill_jax.inference.label_chat import with_label_chat
from sentidistill_jax.inference.label_prompts import known_label_prompts
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.models.config import RopeScaling, every_nth_is_global
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.gguf import GGUFFile, build_tokenizer
from sentidistill_jax.models.hf import hf_tensors
from sentidistill_jax.models.load import load_model
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh

GEMMA3 = dataclasses.replace(
    PRESETS["tiny-gemma3"], num_layers=6, sliding_layers=every_nth_is_global(6, 6)
)
LLAMA3 = dataclasses.replace(PRESETS["tiny-llama3"], rope_scaling=RopeScaling("llama3", 8.0))
TEXTS = ["A warm, witty film with a big heart.", "Dull, loud and far too long.", "Le café, 12.50 €"]


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def model(mesh):
    return random_model(mesh, byte_tokenizer(["positive", "negative"]))


@pytest.mark.parametrize(
    "config",
    [PRESETS["tiny"], LLAMA3, PRESETS["tiny-qwen2.5"], PRESETS["tiny-qwen3"], GEMMA3],
    ids=["llama", "llama3", "qwen2", "qwen3", "gemma3"],
)
def test_every_family_is_read_back_as_it_was(config, model, tmp_path):
    decoder = Decoder(config, nnx.Rngs(0))
    export_gguf(
        dataclasses.replace(model, decoder=decoder), tmp_path / "model.gguf", dtype="float32"
    )
    file = GGUFFile(tmp_path / "model.gguf")
    single = {name: getattr(file.config, name) for name in ("rms_norm_eps", "rope_theta")}
    assert file.config == dataclasses.replace(config, **single)
    assert single == pytest.approx({name: getattr(config, name) for name in single})
    tensors = file.tensors()
    for name, value in hf_tensors(decoder):
        np.testing.assert_array_equal(tensors[name](), value, err_msg=name)


def test_the_tokenizer_and_its_chat_are_read_back(model, tmp_path):
    student = with_label_chat(model, known_label_prompts(), "sentiment")
    export_gguf(student, tmp_path / "model.gguf", about={"general.license": "apache-2.0"})
    file = GGUFFile(tmp_path / "model.gguf")
    tokenizer = file.tokenizer()
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == student.tokenizer(text)["input_ids"]
    assert tokenizer.chat_template == student.tokenizer.chat_template
    assert tokenizer.pad_token_id == student.tokenizer.pad_token_id
    newline = student.tokenizer("\n")["input_ids"]
    assert [file.fields["tokenizer.ggml.eot_token_id"]] == newline
    assert file.fields["general.license"] == "apache-2.0"
    assert (tmp_path / "model.gguf").stat().st_mode & 0o777 == 0o644
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("dtype", "bits", "tolerance"),
    [("float16", 16, 1e-3), ("bfloat16", 16, 8e-3), ("q8_0", 8.5, 1e-2)],
)
def test_smaller_weights_are_rounded(dtype, bits, tolerance, model, tmp_path):
    # Rows of whole blocks of 8-bit weights.
    config = dataclasses.replace(PRESETS["tiny"], embed_dim=64, mlp_dim=96)
    model = dataclasses.replace(model, decoder=Decoder(config, nnx.Rngs(0)))
    export_gguf(model, tmp_path / "model.gguf", dtype=dtype)
    tensors = GGUFFile(tmp_path / "model.gguf").tensors()
    for name, value in hf_tensors(model.decoder):
        largest = np.abs(value).max()
        np.testing.assert_allclose(tensors[name](), value, atol=tolerance * largest, err_msg=name)
    weights = sum(value.size for _, value in hf_tensors(model.decoder))
    export_gguf(model, tmp_path / "whole.gguf", dtype="float32")
    sizes = [(tmp_path / f"{name}.gguf").stat().st_size for name in ("model", "whole")]
    assert sizes[1] - sizes[0] == pytest.approx(weights * (32 - bits) / 8, rel=0.05)


def test_what_a_file_cannot_say_is_refused(model, mesh, tmp_path):
    def exported(config=PRESETS["tiny"], tokenizer=model.tokenizer):
        decoder = Decoder(config, nnx.Rngs(0))
        other = dataclasses.replace(model, decoder=decoder, tokenizer=tokenizer)
        export_gguf(other, tmp_path / "model.gguf")

    with pytest.raises(ValueError, match="'gemma2' are not written as GGUF files"):
        exported(PRESETS["tiny-gemma2"])
    with pytest.raises(ValueError, match="cannot say what the model computes: sliding_layers is"):
        exported(dataclasses.replace(GEMMA3, sliding_layers=(False,) * 5 + (True,)))
    unknown = byte_tokenizer()
    unknown.backend_tokenizer.pre_tokenizer = None  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="cuts texts in a way that no GGUF file of"):
        exported(tokenizer=unknown)
    with pytest.raises(ValueError, match="dtype='int4' must be one of"):
        export_gguf(model, tmp_path / "model.gguf", dtype="int4")
    assert not list(tmp_path.iterdir())


def test_a_sentencepiece_tokenizer_is_read_back():
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = ["▁", "a", "b", "c", "ab", "▁a", "abc", "▁ab", "bc"]
    scores = {"ab": -1.0, "▁a": -2.0, "abc": -3.0, "▁ab": -4.0, "bc": -5.0}
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    fields = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [*pieces, *words],
        "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.scores": [scores.get(word, -9.0) for word in [*pieces, *words]],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_space_prefix": False,
    }  # fmt: skip
    tokenizer = build_tokenizer(fields)
    found = tokenizer_fields(tokenizer, len(kinds) + 2)
    assert found["tokenizer.ggml.token_type"] == [*kinds, 5, 5]
    for name in fields.keys() - {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}:
        read = found[name]
        assert (read[: len(kinds)] if isinstance(read, list) else read) == fields[name]
    again = build_tokenizer(found)
    for text in ("abc ab", " a bc", "é\nabab", "</s>a"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.server
@pytest.mark.smollm2
def test_llama_cpp_writes_what_we_write(mesh, tmp_path):
    """Greedy answers to plain prompts, and to messages of which each names its task."""
    python, port, path = server_python(), free_port(), tmp_path / "student.gguf"
    loaded = load_model("smollm2-135m-instruct", mesh)
    export_gguf(with_label_chat(loaded, known_label_prompts(), "sentiment"), path, dtype="float16")
    ours = LocalModel.on_mesh(load_model(str(path), mesh), mesh)  # with its rounded weights
    prompts = [f"{text} In other words, this is" for text in TEXTS]
    asked = [(task, text) for task in ("sentiment", "emotion") for text in TEXTS]
    prompts += [known_label_prompts()[task].about(text) for task, text in asked]
    expected = [first_line(one.text) for one in ours.complete(prompts, 8)]

    def ask(route, **body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/{route}",
            json.dumps({"temperature": 0, "max_tokens": 8, **body}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())["choices"][0]

    with llama_server(python, path, port, tmp_path / "log"):
        plain = [ask("completions", prompt=prompt)["text"] for prompt in prompts[: len(TEXTS)]]
        chats = [
            ask(
                "chat/completions",
                messages=[{"role": "user", "content": text}],
                # The first task is asked where none is named.
                **({} if task == "sentiment" else {"chat_template_kwargs": {"task": task}}),
            )["message"]["content"]
            for task, text in asked
        ]
    assert [first_line(text) for text in [*plain, *chats]] == expected


def first_line(text):
    return text.split("\n")[0].strip()
