"""The table of families, and one that is added from outside."""

import dataclasses
import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from flax import nnx
from gguf_writer import write_gguf
from safetensors.numpy import load_file

from sentidistill_jax.models.config_files import HF_FIELDS
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.families import (
    FAMILIES,
    LLAMA,
    TENSOR_NAMES,
    Family,
    GGUFFormat,
    TensorNames,
    gguf_families,
    layer_names,
    register_family,
)
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.gguf import GGUFFile
from sentidistill_jax.models.hf import (
    abstract_decoder,
    hf_tensors,
    load_decoder,
    read_hf_directory,
    write_hf_directory,
)
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.sharding import make_mesh

# Llama with Qwen's biases and norms of heads, Gemma's activation, and names of its own.
TOY = Family(
    "toy", "ToyForCausalLM", activation="gelu_tanh", qkv_bias=True, qk_norm=True,
    hf_fields=("hidden_act", "mlp_bias"), gguf=GGUFFormat("toy"),
    names={
        ("embedding",): TensorNames("toy.words.weight", "token_embd.weight"),
        ("layers", "mlp", "up_proj"): layer_names("mlp.wide.weight", "ffn_up.weight"),
    },
)  # fmt: skip
GGUF_NAMES = {"toy.words": "token_embd", "mlp.wide": "ffn_up"}
CONFIG = dataclasses.replace(PRESETS["tiny"], family=TOY, num_layers=2)


class ToyConfig(transformers.LlamaConfig):
    """What transformers must know to read the config.json of the family."""

    model_type = "toy"


@pytest.fixture
def toy():
    transformers.AutoConfig.register("toy", ToyConfig, exist_ok=True)
    register_family(TOY)
    yield TOY
    del FAMILIES["toy"]


def random_model() -> Decoder:
    """A decoder of the family whose biases and norms are not what they begin as."""
    model = Decoder(CONFIG, nnx.Rngs(0))
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), nnx.state(model)
    )
    nnx.update(model, state)
    return model


def logits(model: Decoder) -> np.ndarray:
    tokens = jnp.arange(12)[None]
    return np.asarray(model.logits(model(tokens, tokens)[0]))


def test_a_family_from_outside_round_trips_a_hugging_face_directory(toy, tmp_path):
    model, mesh = random_model(), make_mesh({}, jax.devices()[:1])
    write_hf_directory(model, tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert (fields["model_type"], fields["architectures"]) == ("toy", ["ToyForCausalLM"])
    assert fields["hidden_act"] == "gelu_pytorch_tanh"
    names = load_file(tmp_path / "model.safetensors").keys()
    assert {"toy.words.weight", "model.layers.1.mlp.wide.weight"} <= names
    assert "model.embed_tokens.weight" not in names
    config, tensors = read_hf_directory(tmp_path)
    assert config == CONFIG and config.family is toy
    read = load_decoder(config, tensors, mesh)
    for (name, before), (_, after) in zip(hf_tensors(model), hf_tensors(read), strict=True):
        np.testing.assert_array_equal(after, before, err_msg=name)
    np.testing.assert_array_equal(logits(read), logits(model))
    assert num_parameters(CONFIG) == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))


def test_a_family_from_outside_is_read_from_gguf(toy, tmp_path):
    model = random_model()
    path = write_gguf(tmp_path / "toy.gguf", model, GGUF_NAMES, architecture="toy")
    file = GGUFFile(path)
    epsilon = file.config.rms_norm_eps  # single precision in the file
    assert file.config == dataclasses.replace(CONFIG, rms_norm_eps=epsilon)
    read = load_decoder(file.config, file.tensors(), make_mesh({}, jax.devices()[:1]))
    for (name, before), (_, after) in zip(hf_tensors(model), hf_tensors(read), strict=True):
        np.testing.assert_array_equal(after, before, err_msg=name)


def test_a_family_that_is_not_registered_is_refused(tmp_path):
    write_hf_directory(random_model(), tmp_path)
    with pytest.raises(ValueError, match="model_type='toy', expected one of"):
        read_hf_directory(tmp_path)
    path = write_gguf(tmp_path / "toy.gguf", random_model(), GGUF_NAMES, architecture="toy")
    with pytest.raises(ValueError, match=r"general\.architecture='toy', expected one of"):
        GGUFFile(path)


def test_what_is_taken_is_refused(toy):
    with pytest.raises(ValueError, match="model_type='toy' is registered already"):
        register_family(toy)
    with pytest.raises(ValueError, match="GGUF architecture 'llama' is registered already"):
        register_family(dataclasses.replace(LLAMA, model_type="other"))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_has_names_and_every_field_is_known(family):
    config = dataclasses.replace(PRESETS["tiny"], family=family, tie_embeddings=False)
    paths = {path for path, _ in nnx.to_flat_state(nnx.state(abstract_decoder(config)))}
    names = [family.tensor_names[path] for path in paths]
    assert len({name.hf for name in names}) == len({name.gguf for name in names}) == len(paths)
    for path in paths:
        assert ("{layer}" in family.tensor_names[path].hf) == (path[0] == "layers")
    assert set(family.hf_fields) <= set(HF_FIELDS)
    assert set(TENSOR_NAMES) <= set(family.tensor_names)


def test_gguf_architectures_are_those_of_llama_cpp():
    known = set(gguf.MODEL_ARCH_NAMES.values())
    assert set(gguf_families()) == {"llama", "qwen2", "qwen3", "gemma3"} <= known


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_gguf_names_are_those_of_llama_cpp(family):
    """Each name is one that the library of the format gives to some tensor."""
    known = set(gguf.TENSOR_NAMES.values())
    for names in family.tensor_names.values():
        stem = names.gguf.replace("{layer}", "{bid}").rsplit(".", 1)[0]
        assert stem in known, names
