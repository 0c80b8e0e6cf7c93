"""What is to run, and on what; the backends render it."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from sentidistill_jax.planner.topology import Topology

GRACE_SECONDS = 120  # between a scheduler's SIGTERM and its SIGKILL: time to save

_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE)", re.I)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class GpuNodes:
    """Equal nodes with GPUs; one process runs on each node."""

    gpu: str
    per_node: int
    num_nodes: int = 1


@dataclasses.dataclass(frozen=True)
class LocalProcesses:
    """Processes on this machine, each with simulated devices."""

    num_processes: int
    devices_per_process: int


Hardware = Topology | GpuNodes | LocalProcesses

# GPU -> value of GKE's node label.
GPUS: Mapping[str, str] = {
    "a100": "nvidia-a100-80gb",
    "h100": "nvidia-h100-80gb",
    "h200": "nvidia-h200-141gb",
    "b200": "nvidia-b200",
}


def parse_hardware(text: str) -> Hardware:
    """Reads `v5e:4x4`, `2xv5e:16x16`, `h100:8`, `4xh100:8`, or `local:2x4` (processes x devices).

    Raises:
      ValueError: If it is none of these.
    """
    gpus = re.fullmatch(rf"(?:(\d+)x)?({'|'.join(GPUS)}):(\d+)", text)
    if gpus and int(gpus[1] or 1) > 0 and int(gpus[3]) > 0:
        return GpuNodes(gpus[2], int(gpus[3]), int(gpus[1] or 1))
    local = re.fullmatch(r"local:(\d+)x(\d+)", text)
    if local and int(local[1]) > 0 and int(local[2]) > 0:
        return LocalProcesses(int(local[1]), int(local[2]))
    try:
        return Topology.parse(text)
    except ValueError as error:
        raise ValueError(f"{error} GPU nodes are 4xh100:8, local processes local:2x4.") from None


@dataclasses.dataclass(frozen=True)
class Job:
    """A specification that every backend understands.

    Args:
      name: Lower-case letters, digits and dashes: it becomes a host name.
      command: What every process runs; one process to a host.
      hardware: See `parse_hardware`.
      image: Container image; not for local processes.
      environment: Variable -> value. Never a secret.
      secrets: Variable -> reference: `NAME/KEY` of a Kubernetes secret, a name in Secret Manager
        (tpuvm), or a file that only you can read (slurm).
      storage: Path in the container -> `gs://BUCKET` or a directory of the host.
      max_restarts: After a preemption, a lost host or a crash.

    Raises:
      ValueError: If a name is none, or a variable looks like a secret.
    """

    name: str
    command: Sequence[str]
    hardware: Hardware
    image: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    storage: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_restarts: int = 10

    def __post_init__(self):
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
            raise ValueError(
                f"name={self.name!r} must be at most 40 lower-case letters, digits and dashes,"
                " beginning with a letter."
            )
        if not self.command:
            raise ValueError(
                "the command is missing; write it after --, such as -- sentidistill train ..."
            )
        for variable in [*self.environment, *self.secrets]:
            if not _VARIABLE.fullmatch(variable):
                raise ValueError(f"{variable!r} is no name of an environment variable.")
        for variable in self.environment:
            if _SECRET_NAME.search(variable):
                raise ValueError(
                    f"environment variable {variable} looks like a secret, whose value must not be"
                    f" in a specification; pass --secret={variable}=REFERENCE."
                )
        for path in self.storage:
            if not path.startswith("/"):
                raise ValueError(f"storage path {path!r} must be absolute.")
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts={self.max_restarts} must not be negative.")

    def need_image(self) -> str:
        """The image.

        Raises:
          ValueError: If there is none.
        """
        if not self.image:
            raise ValueError("--image is missing; see launch/Dockerfile for how to build one.")
        return self.image
