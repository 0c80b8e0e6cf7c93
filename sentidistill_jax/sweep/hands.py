"""What runs the commands of trials: here, processes of this machine that outlive who started them.

`Hands` is the seam for schedulers of clusters: start, look, stop, each by the trial's folder.
"""

import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
from collections.abc import Sequence
from typing import Protocol, TypeVar

from sentidistill_jax.errors import EXIT_RESTART

Item = TypeVar("Item")
_DEVICES = pathlib.Path("/dev")


class Hands(Protocol):
    """Runs one command at a time in the folder of each trial."""

    def start(self, folder: pathlib.Path, command: Sequence[str], slot: int) -> None:
        """Starts a command; its output goes to the end of `log.txt` in the folder.

        Args:
          folder: Of the trial.
          command: Words.
          slot: Which of the sweep's workers it is, from 0.
        """
        ...

    def runs(self, folder: pathlib.Path) -> bool:
        """Whether a command runs there, whoever started it."""
        ...

    def exit_code(self, folder: pathlib.Path) -> int | None:
        """Exit code of the folder's command; None while it runs.

        `EXIT_RESTART` where it is not known: start the same command again, which does no finished
        work twice.
        """
        ...

    def stop(self, folder: pathlib.Path) -> None:
        """Asks the folder's command to save its state and end."""
        ...


class LocalHands:
    """Processes of this machine, each with its share of the cores and of the GPUs.

    A command and its children hold a lock in the trial's folder as long as any of them lives. So
    who did not start it can tell whether it runs, and nothing runs twice.

    Args:
      workers: How many run at a time.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._started: dict[pathlib.Path, subprocess.Popen] = {}

    def start(self, folder: pathlib.Path, command: Sequence[str], slot: int) -> None:
        """See `Hands`."""
        with (folder / "log.txt").open("ab") as log, (folder / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],  # the child keeps the lock when we let go of it
                start_new_session=True,  # Ctrl-C is ours: we stop them in order
                env={**os.environ, **self._own_gpus(slot)},
            )
            lock.write(str(process.pid))
        self._started[folder] = process
        self._share_cores(process.pid, slot)

    def runs(self, folder: pathlib.Path) -> bool:
        """See `Hands`."""
        if not folder.is_dir():
            return False
        try:
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def exit_code(self, folder: pathlib.Path) -> int | None:
        """See `Hands`."""
        process = self._started.get(folder)
        code = EXIT_RESTART if process is None else process.poll()
        return None if code is None or self.runs(folder) else code

    def stop(self, folder: pathlib.Path) -> None:
        """See `Hands`."""
        number = (folder / "lock").read_text()
        if number and self.runs(folder):
            os.kill(int(number), signal.SIGTERM)

    def _share(self, items: Sequence[Item], slot: int) -> Sequence[Item]:
        """Every worker's own part; where there are fewer than workers, some have the same one."""
        own = items[slot % self._workers :: self._workers]
        return own or items[slot % len(items) :][:1]

    def _own_gpus(self, slot: int) -> dict[str, str]:
        """JAX takes the memory of all that it sees."""
        here = [path.name.removeprefix("nvidia") for path in _DEVICES.glob("nvidia[0-9]*")]
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(sorted(here, key=int)))
        own = self._share(gpus.split(","), slot)
        return {"CUDA_VISIBLE_DEVICES": ",".join(own)} if gpus else {}

    def _share_cores(self, process: int, slot: int) -> None:
        """Those that compute at the same time would else wait for one another's threads."""
        if hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(process, self._share(sorted(os.sched_getaffinity(0)), slot))
