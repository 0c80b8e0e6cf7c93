"""Hugging Face weights to ours and back: one table of names, read in both directions."""

import contextlib
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.sharding import state_shardings, to_host

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
# Leading dims of our matrices that are inputs: heads and head_dim for o_proj.
_INPUT_DIMS = {
    "q_proj": 1, "k_proj": 1, "v_proj": 1, "o_proj": 2, "gate_proj": 1, "up_proj": 1, "down_proj": 1
}  # fmt: skip


def _hf_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the Hugging Face tensor that becomes an array of ours."""
    if path[-1] not in _INPUT_DIMS:
        return shape
    inputs = _INPUT_DIMS[path[-1]]
    return math.prod(shape[inputs:]), math.prod(shape[:inputs])


def _to_ours(path: Path, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return tensor.T.reshape(shape) if path[-1] in _INPUT_DIMS else tensor


def _to_hf(path: Path, array: np.ndarray) -> np.ndarray:
    if path[-1] in _INPUT_DIMS:
        array = array.reshape(_hf_shape(path, array.shape)[::-1]).T
    return np.ascontiguousarray(array)


def _tensor_names(path: Path, shape: tuple[int, ...]) -> list[str]:
    """Names of the tensors that make up a parameter: one per layer if it is stacked."""
    name = NAMES[path]
    layers = shape[0] if "{layer}" in name else 1
    return [name.format(layer=layer) for layer in range(layers)]


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
    variables = dict(nnx.to_flat_state(state))
    names = {path: _tensor_names(path, v.get_value().shape) for path, v in variables.items()}
    _check_names(config, set(tensors), {name for group in names.values() for name in group})

    def filled(path: Path, variable: Any) -> Any:
        shape = variable.get_value().shape
        value: Any = np.empty(shape, np.float32)
        targets = value if "{layer}" in NAMES[path] else [value]
        for target, name in zip(targets, names[path], strict=True):
            tensor, expected = tensors[name](), _hf_shape(path, target.shape)
            if tensor.shape != expected:
                raise ValueError(
                    f"tensor {name!r} has shape {tensor.shape}, expected {expected}; the config and"
                    " the weights are of different models."
                )
            target[...] = _to_ours(path, tensor, target.shape)
        placement = shardings[path].get_value()
        return variable.replace(
            jax.make_array_from_callback(shape, placement, lambda index: value[index])
        )

    state = [(path, filled(path, variable)) for path, variable in variables.items()]
    return nnx.merge(graphdef, nnx.from_flat_state(state))


def _check_names(config: ModelConfig, found: set[str], wanted: set[str]) -> None:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if config.tie_embeddings and NAMES[("lm_head",)] in extra:
        extra.remove(NAMES[("lm_head",)])  # some writers store the tied head a second time
    if missing:
        raise ValueError(
            f"the weights lack {len(missing)} tensors, the first of them {missing[0]!r}; expected"
            f" those of {config.num_layers} layers and tie_embeddings={config.tie_embeddings}, as"
            " the config says."
        )
    if extra:
        raise ValueError(
            f"the weights hold {len(extra)} tensors that this decoder does not use, the first of"
            f" them {extra[0]!r}; the config and the weights are of different models."
        )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; expected a Hugging Face model directory.")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy it again.") from error


def weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a model, in the order of their names.

    Raises:
      FileNotFoundError: If there is none, or the index names one that is not there.
    """
    index = directory / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(_read_json(index)["weight_map"].values())
    files = [directory / name for name in sorted(names)]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} not found; expected model.safetensors, or all files that"
                f" {index.name} names; copy it there."
            )
    return files


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); copy it again."
        ) from error


def read_hf_directory(
    directory: pathlib.Path,
) -> tuple[ModelConfig, dict[str, Callable[[], np.ndarray]]]:
    """Config and tensors (float32, read on call) of a Hugging Face model directory.

    Raises:
      FileNotFoundError: If config.json or a weight file is missing.
      ValueError: If a file is damaged or the architecture is not one of ours.
    """
    config = ModelConfig.from_hf(_read_json(directory / "config.json"))
    tensors: dict[str, Callable[[], np.ndarray]] = {}

    def reader(path: pathlib.Path, name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with _opened(path) as file:
                return file.get_tensor(name).astype(np.float32, copy=False)

        return read

    for path in weight_files(directory):
        with _opened(path) as file:
            tensors |= {name: reader(path, name) for name in file.keys()}  # noqa: SIM118
    return config, tensors


def hf_tensors(model: Decoder) -> Iterator[tuple[str, np.ndarray]]:
    """Our parameters under their Hugging Face names, one tensor at a time."""
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        value = to_host(variable.get_value())
        arrays = value if "{layer}" in NAMES[path] else [value]
        for name, array in zip(_tensor_names(path, value.shape), arrays, strict=True):
            yield name, _to_hf(path, array)


def write_hf_directory(model: Decoder, directory: pathlib.Path, *, dtype: str = "float32") -> None:
    """Writes config.json and model.safetensors; the caller adds the tokenizer.

    Raises:
      ValueError: If `dtype` is neither "float32" nor "bfloat16".
    """
    dtypes = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
    if dtype not in dtypes:
        raise ValueError(f"dtype={dtype!r} must be one of {sorted(dtypes)}.")
    tensors = {name: tensor.astype(dtypes[dtype]) for name, tensor in hf_tensors(model)}
    if jax.process_index() != 0:
        return  # it has given its parts
    directory.mkdir(parents=True, exist_ok=True)
    config = model.config.to_hf() | {"torch_dtype": dtype}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
