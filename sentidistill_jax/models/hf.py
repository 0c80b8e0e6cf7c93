"""Hugging Face weights to ours and back: one table of names, read in both directions."""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from safetensors import safe_open
from safetensors.numpy import save_file

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.sharding import state_shardings

Path = tuple[Any, ...]

# Our parameter -> Hugging Face tensor. Those with {layer} are stacked along a leading layers dim.
# Hugging Face linear layers are [out, in]; ours are [in, out] with heads kept as a dim.
NAMES: Mapping[Path, str] = {
    ("embedding",): "model.embed_tokens.weight",
    ("layers", "attention_norm", "scale"): "model.layers.{layer}.input_layernorm.weight",
    ("layers", "attention", "q_proj"): "model.layers.{layer}.self_attn.q_proj.weight",
    ("layers", "attention", "k_proj"): "model.layers.{layer}.self_attn.k_proj.weight",
    ("layers", "attention", "v_proj"): "model.layers.{layer}.self_attn.v_proj.weight",
    ("layers", "attention", "o_proj"): "model.layers.{layer}.self_attn.o_proj.weight",
    ("layers", "mlp_norm", "scale"): "model.layers.{layer}.post_attention_layernorm.weight",
    ("layers", "mlp", "gate_proj"): "model.layers.{layer}.mlp.gate_proj.weight",
    ("layers", "mlp", "up_proj"): "model.layers.{layer}.mlp.up_proj.weight",
    ("layers", "mlp", "down_proj"): "model.layers.{layer}.mlp.down_proj.weight",
    ("final_norm", "scale"): "model.norm.weight",
    ("lm_head",): "lm_head.weight",
}
_TRANSPOSED = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def _to_ours(path: Path, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (tensor.T if path[-1] in _TRANSPOSED else tensor).reshape(shape)


def _to_hf(path: Path, array: np.ndarray) -> np.ndarray:
    if path[-1] not in _TRANSPOSED:
        return np.ascontiguousarray(array)
    # The contracted dims come first in ours: embed for q, k, v, gate, up; heads x head_dim for o.
    inputs = array.shape[0] * array.shape[1] if path[-1] == "o_proj" else array.shape[0]
    return np.ascontiguousarray(array.reshape(inputs, -1).T)


def abstract_decoder(config: ModelConfig, **options: Any) -> Decoder:
    """The module with shapes and placements but no memory; `nnx.split` it to fill it in."""
    return nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0), **options))


def load_decoder(
    config: ModelConfig,
    tensors: Mapping[str, Callable[[], np.ndarray]],
    mesh: Mesh,
    **options: Any,
) -> Decoder:
    """Builds a sharded decoder from named tensors.

    Args:
      config: Its shape.
      tensors: Hugging Face tensor name -> function that reads it, [out, in] for linear layers.
      mesh: Where the parameters go.
      **options: Further arguments of `Decoder`.

    Raises:
      ValueError: If a tensor is missing, unexpected or of the wrong shape.
    """
    graphdef, state = nnx.split(abstract_decoder(config, **options))
    shardings = dict(nnx.to_flat_state(state_shardings(state, mesh)))
    wanted: set[str] = set()

    def fill(path: Path, variable: Any) -> Any:
        shape = variable.get_value().shape
        name = NAMES[path]
        stacked = "{layer}" in name
        names = [name.format(layer=i) for i in range(shape[0])] if stacked else [name]
        wanted.update(names)
        missing = [name for name in names if name not in tensors]
        if missing:
            raise ValueError(f"the model files lack the tensor {missing[0]!r}; is it a {config}?")
        value: Any = np.empty(shape, np.float32)
        for target, name in zip(value if stacked else [value], names, strict=True):
            tensor = tensors[name]()
            if tensor.size != target.size:
                raise ValueError(
                    f"tensor {name!r} has shape {tensor.shape}, expected the size of"
                    f" {target.shape}."
                )
            target[...] = _to_ours(path, tensor, target.shape)
        return variable.replace(jax.device_put(value, shardings[path].get_value()))

    filled = {path: fill(path, variable) for path, variable in nnx.to_flat_state(state)}
    extra = sorted(set(tensors) - wanted - ({"lm_head.weight"} if config.tie_embeddings else set()))
    if extra:
        raise ValueError(f"the model files hold {extra[0]!r}, which this decoder does not use.")
    return nnx.merge(graphdef, nnx.from_flat_state(filled.items()))


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; expected a Hugging Face model directory.")
    return json.loads(path.read_text())


def read_hf_directory(
    directory: pathlib.Path,
) -> tuple[ModelConfig, dict[str, Callable[[], np.ndarray]]]:
    """Config and tensors (read on call) of a directory with config.json and safetensors files."""
    config = ModelConfig.from_hf(_read_json(directory / "config.json"))
    tensors: dict[str, Callable[[], np.ndarray]] = {}
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{directory} holds no *.safetensors file; export or copy one in.")

    def reader(path: pathlib.Path, name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with safe_open(path, framework="flax") as file:
                return np.asarray(file.get_tensor(name), dtype=np.float32)

        return read

    for path in files:
        with safe_open(path, framework="flax") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensors[name] = reader(path, name)
    return config, tensors


def hf_tensors(model: Decoder) -> Iterator[tuple[str, np.ndarray]]:
    """Our parameters under their Hugging Face names, one tensor at a time."""
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        name = NAMES[path]
        value = variable.get_value()
        if "{layer}" not in name:
            yield name, _to_hf(path, np.asarray(value))
            continue
        for layer in range(value.shape[0]):
            yield name.format(layer=layer), _to_hf(path, np.asarray(value[layer]))


def write_hf_directory(model: Decoder, directory: pathlib.Path, *, dtype: str = "float32") -> None:
    """Writes config.json and model.safetensors; the caller adds the tokenizer.

    Raises:
      ValueError: If `dtype` is neither "float32" nor "bfloat16".
    """
    dtypes = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
    if dtype not in dtypes:
        raise ValueError(f"dtype={dtype!r} must be one of {sorted(dtypes)}.")
    directory.mkdir(parents=True, exist_ok=True)
    config = model.config.to_hf() | {"torch_dtype": dtype}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(
        {name: tensor.astype(dtypes[dtype]) for name, tensor in hf_tensors(model)},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
