"""Hugging Face directories to sharded decoders and back, one tensor at a time."""

import collections
import contextlib
import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.config_files import config_from_hf, config_to_hf
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.families import HEAD, Path
from sentidistill_jax.sharding import state_shardings, to_host

_READABLE = ("F32", "BF16", "F16")  # dtypes of stored weights
_WRITABLE = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_SHARD_BYTES = 4 * 2**30  # of one weight file, unless a tensor alone is larger
_COMPUTED = ".rotary_emb.inv_freq"  # that files of Llama 2 store: rotary frequencies
# Leading dims of our matrices that are inputs: heads and head_dim for o_proj. Hugging Face linear
# layers are [out, in]; ours are [in, out] with heads kept as a dim.
_INPUT_DIMS = {
    "q_proj": 1, "k_proj": 1, "v_proj": 1, "o_proj": 2, "gate_proj": 1, "up_proj": 1, "down_proj": 1
}  # fmt: skip


def tensor_names(config: ModelConfig, path: Path) -> list[str]:
    """Names of the tensors that make up a parameter: one per layer if it is stacked."""
    name = config.family.tensor_names[path].hf
    if not is_stacked(path):
        return [name]
    return [name.format(layer=layer) for layer in range(config.num_layers)]


def is_stacked(path: Path) -> bool:
    """Whether a parameter has a leading layers dim."""
    return path[0] == "layers"


def hf_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the Hugging Face tensor that becomes an array of ours (of one layer)."""
    if path[-1] not in _INPUT_DIMS:
        return (math.prod(shape),) if path[-1].endswith("_bias") else shape
    inputs = _INPUT_DIMS[path[-1]]
    return math.prod(shape[inputs:]), math.prod(shape[:inputs])


def to_ours(path: Path, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A Hugging Face tensor in our layout; a view of it."""
    return (tensor.T if path[-1] in _INPUT_DIMS else tensor).reshape(shape)


def to_hf(path: Path, array: np.ndarray) -> np.ndarray:
    """An array of ours in the layout of Hugging Face, contiguous."""
    shape = hf_shape(path, array.shape)
    tensor = array.reshape(shape[::-1]).T if path[-1] in _INPUT_DIMS else array.reshape(shape)
    return np.ascontiguousarray(tensor)


def abstract_decoder(config: ModelConfig, **options: Any) -> Decoder:
    """The module with shapes and placements but no memory; `nnx.split` it to fill it in."""
    return nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0), **options))


def load_decoder(
    config: ModelConfig,
    tensors: Mapping[str, Callable[[], np.ndarray]],
    mesh: Mesh,
    *,
    param_dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> Decoder:
    """Builds a sharded decoder from named tensors.

    Tensors are read and placed one after the other, so that a process holds one of them at a time
    beside its own shards, however large the model is.

    Args:
      config: Its shape.
      tensors: Hugging Face tensor name -> function that reads it, [out, in] for linear layers.
      mesh: Where the parameters go.
      param_dtype: Dtype of the parameters; float32 unless they are only read.
      **options: Further arguments of `Decoder`.

    Raises:
      ValueError: If a tensor is missing, unexpected, of the wrong shape or not finite.
    """
    graphdef, state = nnx.split(abstract_decoder(config, **options))
    shardings = dict(nnx.to_flat_state(state_shardings(state, mesh)))
    variables = dict(nnx.to_flat_state(state))
    names = {path: tensor_names(config, path) for path in variables}
    _check_names(config, set(tensors), {name for group in names.values() for name in group})

    def filled(path: Path, variable: Any) -> Any:
        shape = variable.get_value().shape
        sharding = shardings[path].get_value()
        if not is_stacked(path):
            array = _placed(path, names[path][0], tensors, shape, sharding)
            return variable.replace(array.astype(param_dtype))
        of_layer = NamedSharding(mesh, PartitionSpec(*sharding.spec[1:]))
        stack = jnp.zeros(shape, param_dtype, device=sharding)
        for layer, name in enumerate(names[path]):
            array = _placed(path, name, tensors, shape[1:], of_layer)
            stack = _with_layer(stack, array, layer, sharding=sharding)
        return variable.replace(stack)

    filled_state = [(path, filled(path, variable)) for path, variable in variables.items()]
    return nnx.merge(graphdef, nnx.from_flat_state(filled_state))


def _placed(
    path: Path,
    name: str,
    tensors: Mapping[str, Callable[[], np.ndarray]],
    shape: tuple[int, ...],
    sharding: NamedSharding,
) -> jax.Array:
    """A tensor in our layout on its devices; the host has let go of it."""
    tensor, expected = tensors[name](), hf_shape(path, shape)
    if tensor.shape != expected:
        raise ValueError(
            f"tensor {name!r} has shape {tensor.shape}, expected {expected}; the config and the"
            " weights are of different models."
        )
    ours = to_ours(path, tensor, shape)

    def part(index: Any) -> np.ndarray:
        if not np.isfinite(ours[index]).all():
            raise ValueError(
                f"tensor {name!r} holds numbers that are not finite; copy the file again, or take"
                " weights of before their training broke down."
            )
        return ours[index]

    return jax.block_until_ready(jax.make_array_from_callback(shape, sharding, part))


@functools.partial(jax.jit, donate_argnames="stack", static_argnames="sharding")
def _with_layer(
    stack: jax.Array, array: jax.Array, layer: int, *, sharding: NamedSharding
) -> jax.Array:
    stack = lax.dynamic_update_index_in_dim(stack, array.astype(stack.dtype), layer, 0)
    return lax.with_sharding_constraint(stack, sharding)


def _check_names(config: ModelConfig, found: set[str], wanted: set[str]) -> None:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    head = tensor_names(config, HEAD)[0]
    if config.tie_embeddings and head in extra:
        extra.remove(head)  # some writers store the tied head a second time
    extra = [name for name in extra if not name.endswith(_COMPUTED)]
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


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON file of a Hugging Face directory.

    Raises:
      FileNotFoundError: If it is not there.
      ValueError: If it is damaged, or no object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; expected a Hugging Face model directory.")
    try:
        values = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); copy it again.") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds {type(values).__name__}, expected an object; copy it again."
        )
    return values


def weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a model, in the order of their names.

    Raises:
      FileNotFoundError: If there is none, or the index names one that is not there.
      ValueError: If the index is malformed, or names files elsewhere.
    """
    index = directory / "model.safetensors.index.json"
    names: set[Any] = {"model.safetensors"}
    if index.is_file():
        listed = read_json(index).get("weight_map")
        names = set(listed.values()) if isinstance(listed, dict) else {None}
        if not all(isinstance(name, str) and name == pathlib.Path(name).name for name in names):
            raise ValueError(
                f"{index} must have a weight_map from tensors to names of files beside it; copy it"
                " again."
            )
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
    """Config and tensors (in their stored dtype, read on call) of a Hugging Face model directory.

    Raises:
      FileNotFoundError: If config.json or a weight file is missing.
      ValueError: If a file is damaged, the architecture is not one of ours, or weights are stored
        in a dtype that needs more than a cast.
    """
    config = config_from_hf(read_json(directory / "config.json"))
    tensors: dict[str, Callable[[], np.ndarray]] = {}

    def reader(path: pathlib.Path, name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with _opened(path) as file:
                dtype = file.get_slice(name).get_dtype()
                if dtype not in _READABLE:
                    raise ValueError(
                        f"tensor {name!r} of {path} has dtype {dtype}, expected one of"
                        f" {list(_READABLE)}; take the unquantised weights."
                    )
                return file.get_tensor(name)

        return read

    for path in weight_files(directory):
        with _opened(path) as file:
            tensors |= {name: reader(path, name) for name in file.keys()}  # noqa: SIM118
    return config, tensors


def hf_tensors(model: Decoder) -> Iterator[tuple[str, np.ndarray]]:
    """Our parameters under their Hugging Face names, one tensor at a time.

    Every process of a pod must read all of them: each is gathered from all devices.
    """
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        value = variable.get_value()
        for layer, name in enumerate(tensor_names(model.config, path)):
            yield name, to_hf(path, to_host(value[layer] if is_stacked(path) else value))


def _shapes(model: Decoder) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of `hf_tensors`."""
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        shape = variable.get_value().shape
        for name in tensor_names(model.config, path):
            yield name, hf_shape(path, shape[1:] if is_stacked(path) else shape)


def _plan_files(model: Decoder, itemsize: int, shard_bytes: int) -> dict[str, str]:
    """Tensor name -> file; tensors of one file follow one another in `hf_tensors`."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, shape in _shapes(model):
        tensor_bytes = math.prod(shape) * itemsize
        if groups[-1] and size + tensor_bytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor_bytes
    if len(groups) == 1:
        return dict.fromkeys(groups[0], "model.safetensors")
    return {
        name: f"model-{index:05d}-of-{len(groups):05d}.safetensors"
        for index, group in enumerate(groups, start=1)
        for name in group
    }


def write_hf_directory(
    model: Decoder,
    directory: pathlib.Path,
    *,
    dtype: str = "float32",
    shard_bytes: int = _SHARD_BYTES,
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Writes config.json and the weights; the caller adds the tokenizer.

    Every process of a pod must call it; the first one writes.

    Args:
      model: What to write.
      directory: Created if needed.
      dtype: Dtype of the stored weights: float32 or bfloat16.
      shard_bytes: A file that would be larger is split, and an index written.
      fields: Further fields of config.json.

    Raises:
      ValueError: If `dtype` is neither.
    """
    if dtype not in _WRITABLE:
        raise ValueError(f"dtype={dtype!r} must be one of {sorted(_WRITABLE)}.")
    stored = _WRITABLE[dtype]
    files = _plan_files(model, stored.itemsize, shard_bytes)
    in_file = collections.Counter(files.values())
    writes = jax.process_index() == 0
    if writes:
        directory.mkdir(parents=True, exist_ok=True)
        config = config_to_hf(model.config) | {"torch_dtype": dtype} | dict(fields or {})
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors: dict[str, np.ndarray] = {}
    total = 0
    for name, tensor in hf_tensors(model):
        total += tensor.size * stored.itemsize
        if writes:
            tensors[name] = tensor.astype(stored)
            if len(tensors) == in_file[files[name]]:
                save_file(tensors, directory / files[name], metadata={"format": "pt"})
                tensors = {}
    if writes and len(set(files.values())) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": files}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
