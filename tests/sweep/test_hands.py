"""Processes that outlive who started them, and are found again."""

import os
import sys
import time

import pytest

from sentidistill_jax.errors import EXIT_RESTART
from sentidistill_jax.sweep.hands import LocalHands


def python(code):
    return [sys.executable, "-c", code]


def ended(hands, folder):
    end = time.monotonic() + 30
    while (code := hands.exit_code(folder)) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    return code


def test_a_command_runs_once_and_its_exit_is_known_to_who_started_it(tmp_path):
    mine, others = LocalHands(1), LocalHands(1)
    assert not mine.runs(tmp_path / "nowhere")
    mine.start(tmp_path, python("import time; print('said'); time.sleep(1); exit(3)"), 0)
    assert others.runs(tmp_path) and others.exit_code(tmp_path) is None
    with pytest.raises(BlockingIOError):
        others.start(tmp_path, python(""), 0)
    assert ended(mine, tmp_path) == 3
    assert others.exit_code(tmp_path) == EXIT_RESTART
    assert (tmp_path / "log.txt").read_text() == "said\n"


def test_who_did_not_start_a_command_can_stop_it(tmp_path):
    mine, others = LocalHands(1), LocalHands(1)
    wait = "import signal, time; signal.signal(15, lambda *_: exit(75)); print(1, flush=True)"
    mine.start(tmp_path, python(f"{wait}; time.sleep(60)"), 0)
    while not (tmp_path / "log.txt").read_text():
        time.sleep(0.05)
    others.stop(tmp_path)
    assert ended(mine, tmp_path) == 75
    others.stop(tmp_path)  # nothing to stop: nothing happens


def test_a_child_keeps_the_folder_when_its_parent_is_killed(tmp_path):
    hands = LocalHands(1)
    fork = "import os, signal, time\nif os.fork(): os.kill(os.getpid(), signal.SIGKILL)\n"
    hands.start(tmp_path, python(f"{fork}time.sleep(1.5)"), 0)
    time.sleep(0.7)
    assert hands.exit_code(tmp_path) is None and hands.runs(tmp_path)
    assert ended(hands, tmp_path) == -9


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_workers_share_cores_and_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    hands, cores = LocalHands(2), sorted(os.sched_getaffinity(0))
    show = (
        "import os, time; time.sleep(0.5);"
        "print(sorted(os.sched_getaffinity(0)), os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    for slot, gpus in ((0, "4,6"), (1, "5")):
        folder = tmp_path / str(slot)
        folder.mkdir()
        hands.start(folder, python(show), slot)
        assert ended(hands, folder) == 0
        own = cores[slot::2] or cores
        assert (folder / "log.txt").read_text() == f"{own} {gpus}\n"
