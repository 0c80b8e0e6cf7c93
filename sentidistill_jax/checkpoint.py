"""Saving and restoring a run through Orbax: asynchronous, atomic, checked when it is read.

The state is everything: a run's position in the data is its step, and its only randomness are
shuffles and adapters that its seed decides, so the config saved beside it completes it.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import lax
from jax.experimental import multihost_utils

from sentidistill_jax.errors import StorageError

State = TypeVar("State")


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: Made if needed.
      keep: How many of the newest to keep.
      keep_every: Checkpoints at multiples of this step stay for good; 0: none does.
    """

    def __init__(self, directory: pathlib.Path, *, keep: int = 2, keep_every: int = 0):
        self._directory = directory.resolve()
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                keep_period=keep_every or None,
                cleanup_tmp_directories=jax.process_index() == 0,
            ),
        )

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Starts writing; returns once the arrays have been copied off the devices.

        Raises:
          StorageError: If this checkpoint, or the one before it, cannot be written.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
            checksums=ocp.args.JsonSave(checksums(state)),  # pyright: ignore[reportCallIssue]
            config=ocp.args.JsonSave(config),  # pyright: ignore[reportCallIssue]
        )
        with self._write_errors():
            self._manager.save(step, args=items)

    def restore(self, like: State) -> tuple[State, dict[str, Any]] | None:
        """The newest checkpoint that is whole, placed as `like` is placed, and its config.

        One that cannot be read, or whose arrays are not those that were saved, is reported on
        standard error and set aside as `damaged-<step>`; the one before it is tried.

        Returns:
          None if there is no whole checkpoint.

        Raises:
          ValueError: If a whole checkpoint holds other arrays than `like`.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self._read(step, checksums=ocp.args.JsonRestore())["checksums"]
                # Without the arrays asked for, what follows would fail for another reason.
                fits = saved.keys() == {_name(*leaf) for leaf in jax.tree.leaves_with_path(like)}
                found = self._restore(step, like, saved) if fits else None
                problem = ""
            except Exception as error:  # whatever Orbax and its file formats stumble over
                fits, found, problem = True, None, f"{type(error).__name__}: {error}"
            if not fits:
                raise ValueError(
                    f"the checkpoint of step {step} in {self._directory} holds other arrays than"
                    " this run trains; choose another directory or the settings it was made with."
                )
            # Processes agree: what one of them cannot read none of them uses.
            if multihost_utils.process_allgather(np.array(not problem)).all():
                return found
            self._set_aside(step, problem or "another process cannot read it")
        return None

    def _read(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _restore(
        self, step: int, like: State, saved: dict[str, int]
    ) -> tuple[State, dict[str, Any]]:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._read(
            step,
            state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
            config=ocp.args.JsonRestore(),
        )
        found = checksums(restored["state"])
        changed = [name for name in found if found[name] != saved[name]]
        if changed:
            raise ValueError(f"{len(changed)} arrays are not what was saved, such as {changed[0]}")
        return restored["state"], restored["config"]

    def _set_aside(self, step: int, problem: str) -> None:
        if jax.process_index() == 0:
            target = self._directory / f"damaged-{step}"
            (self._directory / str(step)).rename(target)
            print(
                f"the checkpoint of step {step} is damaged ({' '.join(problem.split())[:300]}); it"
                f" now lies in {target}, and the one before it is used.",
                file=sys.stderr,
            )
        multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()

    def close(self) -> None:
        """Waits for what is being written.

        Raises:
          StorageError: If it cannot be written.
        """
        with self._write_errors():
            self._manager.wait_until_finished()
        self._manager.close()

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Orbax and TensorStore name a full or lost disk in many ways, and at length."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise StorageError(
                f"a checkpoint cannot be written to {self._directory}"
                f" ({' '.join(str(error).split())[:200]}); the ones before it are kept, run the"
                " same command again once the disk or mount is well."
            ) from error


def checksums(state: Any) -> dict[str, int]:
    """Name, dtype and shape of each array -> a sum over its bits.

    Computed where the arrays lie, and the same for any placement and number of processes. Each word
    is multiplied by an odd number that its place decides, so that a single changed bit always
    shows, and words that changed places nearly always.
    """
    leaves = jax.tree.leaves_with_path(state)
    sums = jax.device_get(_sums([array for _, array in leaves]))
    return {_name(*leaf): int(sum_) for leaf, sum_ in zip(leaves, sums, strict=True)}


def _name(path: Any, array: jax.Array) -> str:
    return f"{jax.tree_util.keystr(path)} {array.dtype}{list(array.shape)}"


@jax.jit
def _sums(arrays: list[jax.Array]) -> list[jax.Array]:
    def of(array: jax.Array) -> jax.Array:
        words = lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}")
        places = jnp.zeros(array.shape, jnp.uint32)
        for axis, size in enumerate(array.shape):
            places = places * size + lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        return jnp.sum(words.astype(jnp.uint32) * (2 * places + 1), dtype=jnp.uint32)

    return [of(array) for array in arrays]
