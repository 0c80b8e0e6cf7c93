"""Several processes as one job: they find one another, wait for one another, and end together.

A process learns its place from, in this order: `SENTIDISTILL_COORDINATOR`,
`SENTIDISTILL_NUM_PROCESSES` and `SENTIDISTILL_PROCESS_ID` (which the launcher sets on this machine
and on GPU nodes of a JobSet); Slurm's step variables; the TPU runtime, on its hosts.

Collectives wait without limit for a peer that is gone. A thread of each process therefore writes a
heartbeat to the coordinator every second and reads those of the others; the first that misses a
peer for `PEER_SECONDS` says so and ends its process with the code that makes a scheduler start all
again. It does the same where the process lives but its main thread, inside a `watchdog`, has not
begun a step for `HANG_SECONDS`: one that hangs keeps all others waiting inside a collective.
"""

import contextlib
import contextvars
import dataclasses
import faulthandler
import functools
import os
import pathlib
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, ParamSpec

import jax
from jax.experimental import multihost_utils

from sentidistill_jax.errors import EXIT_RESTART

START_SECONDS = 600  # for all processes to appear: slow hosts pull images for minutes
PEER_SECONDS = 30  # without a sign of life, after which a peer is taken for lost
HANG_SECONDS = 1800  # between the beginnings of two steps: a step, its compilation, a checkpoint
_HEARTBEAT_SECONDS = 1.0
_alone = contextvars.ContextVar("alone", default=False)  # process 0 at work for all
_VARIABLES = tuple(f"SENTIDISTILL_{x}" for x in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID"))

Arguments = ParamSpec("Arguments")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """This process's place in a job; empty fields are found out by JAX."""

    source: str  # environment, slurm or tpu
    coordinator: str | None = None  # host:port of process 0
    num_processes: int | None = None
    process_id: int | None = None


def detect(environment: Mapping[str, str], *, tpu: bool = False) -> Cluster | None:
    """The job that this process belongs to; None for a process by itself.

    Args:
      environment: Its variables.
      tpu: Whether it runs on a host with TPUs.

    Raises:
      ValueError: If the explicit variables are incomplete or contradict one another.
    """
    given = [name for name in _VARIABLES if environment.get(name)]
    if given:
        if len(given) < len(_VARIABLES):
            missing = sorted(set(_VARIABLES) - set(given))
            raise ValueError(f"{given[0]} is set but not {', '.join(missing)}; set all or none.")
        coordinator, *numbers = (environment[name] for name in _VARIABLES)
        if not all(number.isdecimal() for number in numbers):
            raise ValueError(f"{', '.join(_VARIABLES[1:])} must be numbers, got {numbers}.")
        count, index = map(int, numbers)
        if not re.fullmatch(r"[^:]+:\d+", coordinator) or not 0 <= index < count:
            raise ValueError(
                f"expected {_VARIABLES[0]}=HOST:PORT and 0 <= process id < number of processes, got"
                f" {coordinator!r}, {index} and {count}."
            )
        return Cluster("environment", coordinator, count, index)
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        return Cluster("slurm")
    return Cluster("tpu") if tpu else None


def has_tpu() -> bool:
    """Whether this machine has TPU devices and the library that runs them."""
    devices = any(pathlib.Path("/dev").glob("accel[0-9]*")) or pathlib.Path("/dev/vfio/0").exists()
    chosen = os.environ.get("JAX_PLATFORMS", "tpu").split(",")
    return devices and "tpu" in chosen


class Job:
    """The job while it runs; a process by itself is a job of one.

    Args:
      cluster: See `detect`.
      start_seconds: For all processes to appear.
      peer_seconds: Without a sign of life, after which a peer is taken for lost.
      hang_seconds: Without a new step inside a `watchdog`, after which the job is taken for hung.

    Raises:
      TimeoutError: If not all processes appear; names those that are missing.
    """

    def __init__(
        self,
        cluster: Cluster | None,
        *,
        start_seconds: int = START_SECONDS,
        peer_seconds: float = PEER_SECONDS,
        hang_seconds: float = HANG_SECONDS,
    ):
        self._client: Any = None
        self._ended = threading.Event()
        self._peer_seconds = peer_seconds
        self._hang_seconds = hang_seconds
        if cluster is None:
            return
        self._connect(cluster, start_seconds)
        self._index, self._count = jax.process_index(), jax.process_count()
        if self._count == 1:
            return
        from jax._src import distributed  # the client has no public name

        self._client = distributed.global_state.client
        self._set("host", socket.gethostname())
        barrier(self._client, "start", self._index, self._count, start_seconds)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def alone(self) -> bool:
        """Whether this process is all of the job."""
        return self._client is None

    def _connect(self, cluster: Cluster, start_seconds: int) -> None:
        # The loop agrees on stopping by itself; JAX's service would swallow SIGTERM outside it.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                cluster.coordinator,
                cluster.num_processes,
                cluster.process_id,
                initialization_timeout=start_seconds,
                # Ours comes first, with names.
                heartbeat_timeout_seconds=int(10 * self._peer_seconds) + 10,
            )
        except jax.errors.JaxRuntimeError as error:
            missing = sorted(set(map(int, re.findall(r"task:(\d+)", str(error)))))
            raise TimeoutError(
                f"after {start_seconds} s"
                f" {_names(missing) if missing else 'not all processes'} had not appeared at"
                f" {cluster.coordinator or 'the coordinator'}; look at their logs."
            ) from error

    def _set(self, key: str, value: str) -> None:
        self._client.key_value_set(f"job/{key}/{self._index}", value, allow_overwrite=True)

    def _get(self, key: str) -> dict[int, str]:
        found = self._client.key_value_dir_get(f"job/{key}/")
        return {int(name.rsplit("/", 1)[1]): value for name, value in found}

    def _watch(self) -> None:
        changed = dict.fromkeys(range(self._count), time.monotonic())
        heartbeats: dict[int, str] = {}
        number = 0
        while not self._ended.wait(_HEARTBEAT_SECONDS):
            number += 1
            try:
                self._set("heartbeat", f"{number} {_progress.steps}")
                latest, ended = self._get("heartbeat"), self._get("ended")
            except jax.errors.JaxRuntimeError:
                if not self._ended.is_set():
                    self._end("process 0, which coordinates the job, is gone", EXIT_RESTART)
                return
            now = time.monotonic()
            for process, heartbeat in latest.items():
                if heartbeats.get(process) != heartbeat:
                    heartbeats[process], changed[process] = heartbeat, now
            for process, code in ended.items():
                if process != self._index and now - changed[process] > _HEARTBEAT_SECONDS * 5:
                    self._end(f"process {process} ended with exit code {code}", int(code))
            lost = [
                process
                for process, since in changed.items()
                if process not in ended and now - since > self._peer_seconds
            ]
            if lost:
                hosts = self._get("host")
                where = ", ".join(f"{n} on {hosts.get(n, 'an unknown host')}" for n in lost)
                self._end(
                    f"no sign of life for {self._peer_seconds:g} s from process {where}",
                    EXIT_RESTART,
                )
            # The coordinator lets the others speak first: its end is theirs.
            patience = self._hang_seconds + (0 if self._index else 5 * _HEARTBEAT_SECONDS)
            if _progress.since is not None and now - _progress.since > patience:
                # Shows who waits in a collective, and who hangs elsewhere.
                faulthandler.dump_traceback(sys.stderr)
                steps = {process: int(text.split()[1]) for process, text in latest.items()}
                self._end(
                    f"no step has begun for {self._hang_seconds:g} s: {hung_processes(steps)}",
                    EXIT_RESTART,
                )

    def _end(self, reason: str, code: int) -> NoReturn:
        """Ends the process from whatever thread, also one that waits inside a collective."""
        print(
            f"sentidistill: {reason}; process {self._index} of {self._count} ends. Start the job"
            " again to go on from its last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(code or EXIT_RESTART)

    def fail(self, error: BaseException) -> None:
        """Takes what a stage raised: where a collective failed, the watch says who is lost.

        Returns for other errors, which starting again would not mend.
        """
        is_lost = isinstance(error, jax.errors.JaxRuntimeError)
        if self._client is None or not is_lost or "RESOURCE_EXHAUSTED" in str(error):
            return
        first = str(error).strip().partition("\n")[0][:200]
        print(f"sentidistill: a collective failed ({first})", file=sys.stderr, flush=True)
        self._thread.join(self._peer_seconds + 10 * _HEARTBEAT_SECONDS)
        self._end("communication between the processes failed", EXIT_RESTART)

    def close(self, code: int) -> None:
        """Leaves the job; the others hear of an exit code that is not 0 and end as well."""
        if self._client is None:
            return
        if code:
            try:
                self._set("ended", str(code))
                # The coordinator must outlive the others' reading of it.
                time.sleep(3 * _HEARTBEAT_SECONDS if self._index else 8 * _HEARTBEAT_SECONDS)
            except jax.errors.JaxRuntimeError:
                pass  # the coordinator was faster
            self._ended.set()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # a tidy shutdown would wait for peers that are not coming
        barrier(self._client, "end", self._index, self._count, START_SECONDS)
        self._ended.set()
        jax.distributed.shutdown()


def barrier(client: Any, name: str, index: int, count: int, seconds: float) -> None:
    """Waits until all processes have come here.

    Raises:
      TimeoutError: Names the processes that have not.
    """
    client.key_value_set(f"barrier/{name}/{index}", "", allow_overwrite=True)
    deadline = time.monotonic() + seconds
    while True:
        arrived = {
            int(key.rsplit("/", 1)[1]) for key, _ in client.key_value_dir_get(f"barrier/{name}/")
        }
        missing = sorted(set(range(count)) - arrived)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{_names(missing)} of {count} did not reach {name!r} within {seconds:g} s; look"
                " at their logs."
            )
        time.sleep(0.05)


def _names(processes: Iterable[int]) -> str:
    numbers = list(processes)
    noun = "process" if len(numbers) == 1 else "processes"
    return f"{noun} {', '.join(map(str, numbers))}"


def start(environment: Mapping[str, str] = os.environ) -> Job:
    """Joins the job that the environment tells of."""
    return Job(
        detect(environment, tpu=has_tpu()),
        start_seconds=int(environment.get("SENTIDISTILL_START_SECONDS", START_SECONDS)),
        peer_seconds=float(environment.get("SENTIDISTILL_PEER_SECONDS", PEER_SECONDS)),
        hang_seconds=float(environment.get("SENTIDISTILL_HANG_SECONDS", HANG_SECONDS)),
    )


@dataclasses.dataclass
class _Progress:
    """How far the main thread has come."""

    steps: int = 0  # begun, in all watchdogs together
    since: float | None = None  # when it began the last; None outside a watchdog


_progress = _Progress()


@contextlib.contextmanager
def watchdog() -> Iterator[Callable[[], None]]:
    """Gives `begin_step`, which the main thread calls before each thing that all do together.

    Inside, a job of several processes ends if it does not call it for the job's `hang_seconds`.
    """

    def begin_step() -> None:
        _progress.steps += 1
        _progress.since = time.monotonic()

    _progress.since = time.monotonic()
    try:
        yield begin_step
    finally:
        _progress.since = None


def hung_processes(steps: Mapping[int, int]) -> str:
    """Which processes have begun fewer steps than others, given the steps that each has begun."""
    behind = sorted(process for process, count in steps.items() if count < max(steps.values()))
    return f"the others wait for {_names(behind)}" if behind else "all wait at the same point"


def is_process_zero() -> bool:
    """Whether this process writes what all have in common."""
    return jax.process_index() == 0


def wait_for_all(point: str) -> None:
    """Returns once every process has come to this point of the program."""
    if jax.process_count() > 1 and not _alone.get():
        multihost_utils.sync_global_devices(point)


def on_process_zero(function: Callable[Arguments, object]) -> Callable[Arguments, None]:
    """Decorates a function that process 0 runs for all while the others wait.

    They may then read what it has written. All processes must call it. Process 0 waits for nobody
    inside, so that one such function may call another. What it raises ends its process, and that
    the ones that wait for it.
    """

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if is_process_zero():
            token = _alone.set(True)
            try:
                function(*args, **kwargs)
            finally:
                _alone.reset(token)
        wait_for_all(f"process 0 has done {function.__qualname__}")

    return wrapped
