"""GGUF files: a tiny one written here, and the embedded models."""

import dataclasses
import pathlib

import gguf
import jax
import numpy as np
import pytest
from flax import nnx
from gguf_writer import write_gguf
from goldens import GOLDEN, decoder_of
from transformers import PreTrainedTokenizerBase

from sentidistill_jax.inference.engine import Engine, GenerateRequest, ScoreRequest
from sentidistill_jax.inference.sampling import SamplingConfig
from sentidistill_jax.inference.tokens import encode, encode_prompt
from sentidistill_jax.models import load
from sentidistill_jax.models.config import every_nth_is_global
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.embedded import embedded_path
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.gguf import GGUFFile
from sentidistill_jax.models.hf import hf_tensors, load_decoder
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.mark.parametrize("name", ["llama_tied", "llama_untied"])
def test_a_decoder_survives_a_gguf_file(name, mesh, tmp_path):
    """Tied and untied heads; rows of q and k are put back in order."""
    model = decoder_of(name, mesh)
    file = GGUFFile(write_gguf(tmp_path / "model.gguf", model))
    # Single precision in the file's metadata; all else is exact.
    assert file.config.rms_norm_eps == pytest.approx(model.config.rms_norm_eps)
    assert file.config == model.config.__class__(
        **{**vars(model.config), "rms_norm_eps": file.config.rms_norm_eps}
    )
    read = dict(hf_tensors(load_decoder(file.config, file.tensors(), mesh)))
    for tensor, value in hf_tensors(model):
        np.testing.assert_array_equal(read[tensor], value, err_msg=tensor)


GEMMA3 = dataclasses.replace(
    PRESETS["tiny-gemma3"], num_layers=6, sliding_layers=every_nth_is_global(6, 6)
)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [("qwen2", PRESETS["tiny-qwen2.5"]), ("qwen3", PRESETS["tiny-qwen3"]), ("gemma3", GEMMA3)],
)
def test_other_families_survive_a_gguf_file(architecture, config, mesh, tmp_path):
    """Biases, norms of heads, norms with an offset, sliding layers; no rows are interleaved."""
    model = Decoder(config, nnx.Rngs(0))
    names = {}
    if architecture == "gemma3":
        names = {
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        }
    path = write_gguf(tmp_path / "model.gguf", model, names, architecture=architecture)
    file = GGUFFile(path)
    epsilon = file.config.rms_norm_eps
    assert file.config == dataclasses.replace(config, rms_norm_eps=epsilon)
    read = dict(hf_tensors(load_decoder(file.config, file.tensors(), mesh)))
    for tensor, value in hf_tensors(model):
        np.testing.assert_array_equal(read[tensor], value, err_msg=tensor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, r"general\.architecture='mamba', expected one of"),
        ({"rope_scaling": gguf.RopeScalingType.YARN}, r"rope\.scaling\.type='yarn'"),
        (
            {"rope_freqs.weight": np.arange(1, 7, dtype=np.float32)},
            r"'rope_freqs\.weight'\) that are not those of Llama 3",
        ),
        ({"blk.0.attn_sinks": np.ones(4, np.float32)}, r"tensor 'blk\.0\.attn_sinks', which"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused(changes, message, mesh, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", decoder_of("llama_tied", mesh), **changes)
    with pytest.raises(ValueError, match=message):
        GGUFFile(path).tensors()


def test_another_tokenizer_is_refused(mesh, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", decoder_of("llama_tied", mesh), pre="falcon")
    with pytest.raises(ValueError, match=r"tokenizer \('gpt2', 'falcon'\), expected"):
        GGUFFile(path).tokenizer()


@pytest.mark.parametrize("kept", [0, 3, 100, 3000, -100])
def test_a_truncated_file_is_named(kept, mesh, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", decoder_of("llama_tied", mesh))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.gguf is not a whole GGUF file"):
        GGUFFile(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.gguf not found"):
        GGUFFile(tmp_path / "model.gguf")


# --- the real files -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Real:
    """An embedded model beside what transformers' own GGUF loading computes for some texts."""

    name: str
    path: pathlib.Path
    tokenizer: PreTrainedTokenizerBase
    expected: list[dict[str, np.ndarray]]
    parameters: int
    sensible: tuple[str, str]  # a text, and how the model goes on


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (
                "smollm2-135m-instruct",
                "smollm2",
                134_515_008,
                ("The capital of France is", " Paris"),
            ),
            marks=pytest.mark.smollm2,
        ),
        pytest.param(
            ("gemma3-270m", "gemma3_270m", 268_098_176, ("One, two, three, four,", " five")),
            marks=pytest.mark.gemma3,
        ),
    ],
    ids=lambda param: param[1],
)
def real(request):
    name, golden, parameters, sensible = request.param
    try:
        path = embedded_path(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    stored = np.load(GOLDEN / f"{golden}.npz")
    texts = sorted({key.split("/")[0] for key in stored.files})
    expected = [
        {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{text}/")}
        for text in texts
    ]
    return Real(name, path, GGUFFile(path).tokenizer(), expected, parameters, sensible)


def test_tokens_are_those_of_transformers(real):
    assert len(real.expected) == 5
    for golden in real.expected:
        text = golden["text"].tobytes().decode()
        assert encode_prompt(real.tokenizer, text).tolist() == golden["tokens"].tolist(), text


@pytest.mark.parametrize(
    "text",
    [
        "", "plain words", "12345 and 6.7e-8", "  leading, trailing  ", "\n\n\ttabs\r\n",
        "naïve façade — “quotes”", "很好吃，谢谢", "ありがとう", "😀👍🏽", "👨‍👩‍👧 family",
        "<|im_start|>user<|im_end|>", "<start_of_turn>user<b>", "\u200b\u00ad\x00",
    ],
)  # fmt: skip
def test_texts_survive_tokenisation(real, text):
    assert real.tokenizer.decode(encode(real.tokenizer, text).tolist()) == text


def test_digits_stand_alone(real):
    assert len(encode(real.tokenizer, "2024")) == 4


def test_special_tokens_are_one_token(real):
    tokenizer = real.tokenizer
    roles = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    if real.name.startswith("smollm2"):
        assert encode(tokenizer, "<|im_start|>").tolist() == [tokenizer.bos_token_id]
        assert (*roles, tokenizer.unk_token_id) == (1, 2, 2, 0)
        assert "<|im_start|>assistant" in tokenizer.chat_template
    else:
        assert encode(tokenizer, "<start_of_turn>\n\n").tolist() == [105, 108]
        assert (*roles, tokenizer.unk_token_id) == (2, 1, 0, 3)
        assert tokenizer.chat_template is None  # the model before any tuning


def test_logits_are_those_of_transformers_and_text_is_sensible(real, mesh):
    model = load.load_model(real.name, mesh)
    assert num_parameters(model.decoder.config) == real.parameters
    engine = Engine(model.decoder, mesh, pad_id=2)
    ids = np.arange(0, model.decoder.config.vocab_size, 4096)
    requests = [
        ScoreRequest(golden["tokens"], len(golden["tokens"]), 1, ids[None])
        for golden in real.expected
    ]
    for index, scored in engine.score(requests, k=8):
        golden = real.expected[index]
        np.testing.assert_array_equal(scored.top_k_ids[0], golden["top_ids"])
        # Logits are compared up to the constant that the log-softmax takes out.
        constant = golden["top_logits"][0] - scored.top_k_logprobs[0, 0]
        got = np.concatenate([scored.top_k_logprobs[0], scored.chosen_logprobs[0]]) + constant
        logits = np.concatenate([golden["top_logits"], golden["some_logits"]])
        np.testing.assert_allclose(got, logits, atol=1e-4 * np.abs(logits).max())
    text, further = real.sensible
    prompt = encode_prompt(model.tokenizer, text)
    sampling = SamplingConfig(max_new_tokens=4)
    ((_, generation),) = engine.generate([GenerateRequest(prompt)], sampling, stop_ids=[])
    assert str(model.tokenizer.decode(generation.tokens.tolist())).startswith(further)
