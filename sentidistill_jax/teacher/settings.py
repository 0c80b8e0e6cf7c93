"""Which teacher a run has, loaded or served, and how it becomes ready to answer."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sentidistill_jax import sharding
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.model import EndpointModel
from sentidistill_jax.endpoint.settings import EndpointSettings
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.language_model import LanguageModel
from sentidistill_jax.models.load import load_model, weights_fingerprint


@dataclasses.dataclass(frozen=True)
class TeacherSettings:
    """A teacher; fields as in configs/base.py.

    Raises:
      ValueError: If the dtype is neither float32 nor bfloat16.
    """

    source: str
    dtype: str
    tokens_per_batch: int
    max_num_seqs: int
    per_process: bool
    endpoint: EndpointSettings | None  # the server whose model it is instead of one to load

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"teacher.dtype={self.dtype!r} must be 'float32' or 'bfloat16'.")

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "TeacherSettings":
        """The teacher of a config's section `teacher`, as plain values.

        Raises:
          ValueError: If a field is out of range.
        """
        server = section["endpoint"]
        endpoint = EndpointSettings(**server) if server["base_url"] else None
        return cls(**{**section, "endpoint": endpoint})

    def identity(self) -> dict[str, Any]:
        """What decides the teacher's answers: a server may move, a batch may be smaller."""
        if self.endpoint is not None:
            return {"endpoint": self.endpoint.identity()}
        return {"source": self.source, "dtype": self.dtype}

    def made_from(self) -> dict[str, Any]:
        """What artifacts remember of it: its identity, and a hash of weights that are loaded.

        Raises:
          FileNotFoundError: If there is no model at `source`.
        """
        loaded = self.endpoint is None
        return self.identity() | ({"weights": weights_fingerprint(self.source)} if loaded else {})

    @property
    def spans_processes(self) -> bool:
        """Whether one teacher lies over the devices of all processes, which ask it together.

        A server, or a teacher that each process has for itself, can be asked by one of them alone.
        """
        return self.endpoint is None and not self.per_process

    def load_local(self, mesh_sizes: Mapping[str, int]) -> LocalModel:
        """Loads `source`, over this process's devices or those of all.

        Args:
          mesh_sizes: Devices along each mesh axis.
        """
        devices = jax.local_devices() if self.per_process else jax.devices()
        mesh = sharding.make_mesh(mesh_sizes, devices)
        loaded = load_model(self.source, mesh, dtype=jnp.dtype(self.dtype))
        return LocalModel.on_mesh(
            loaded, mesh, tokens_per_batch=self.tokens_per_batch, max_num_seqs=self.max_num_seqs
        )

    def load(self, mesh_sizes: Mapping[str, int], journal: pathlib.Path) -> LanguageModel:
        """The teacher, ready to answer; a server's answers are kept in a journal."""
        if self.endpoint is not None:
            return EndpointModel(self.endpoint, Journal(journal))
        return self.load_local(mesh_sizes)
