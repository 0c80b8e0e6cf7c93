"""Saving and restoring a run through Orbax: asynchronous, atomic, the newest few kept."""

import pathlib
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

State = TypeVar("State")


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: Made if needed.
      keep: How many of the newest to keep.
    """

    def __init__(self, directory: pathlib.Path, *, keep: int = 2):
        self._manager = ocp.CheckpointManager(
            directory.resolve(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=jax.process_index() == 0
            ),
        )

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Starts writing; returns once the arrays have been copied off the devices."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
                config=ocp.args.JsonSave(config),  # pyright: ignore[reportCallIssue]
            ),
        )

    def restore(self, like: State) -> tuple[State, dict[str, Any]]:
        """The newest checkpoint, placed as `like` is placed, and the config it was made with."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._manager.restore(
            self.latest,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
                config=ocp.args.JsonRestore(),
            ),
        )
        return restored["state"], restored["config"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()
