"""Controllers and trials are killed for real: nothing is lost, nothing runs twice to its end."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from control import run
from trial_process import STEPS

CONTROL = str(pathlib.Path(__file__).with_name("control.py"))
ROOT = pathlib.Path(__file__).parents[2]


def start(folder: pathlib.Path, **settings) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, CONTROL, str(folder), json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def outcome(folder: pathlib.Path) -> list[tuple]:
    trials = json.loads((folder / "results.json").read_text())["trials"]
    return [(trial["number"], trial["state"], trial["labels"]) for trial in trials]


def steps_of(folder: pathlib.Path) -> dict[str, list[int]]:
    """Trial -> the steps that its metrics hold."""
    return {
        path.parents[2].name: [json.loads(line)["step"] for line in path.read_text().splitlines()]
        for path in folder.glob("trials/*/students/one/metrics.jsonl")
    }


def finished(folder: pathlib.Path) -> list[str]:
    return [path.read_text() for path in folder.glob("trials/*/students/one/finished")]


def test_kills_lose_nothing_and_repeat_nothing(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole, trials=6).wait(60) == 0
    chance, kills = random.Random(0), 0
    process = start(broken, trials=6)
    while process.poll() is None:
        time.sleep(chance.uniform(0.3, 1.0))
        if kills == 12:
            process.wait(60)
        elif chance.random() < 0.5:
            process.kill()
            process.wait()
            process, kills = start(broken, trials=6), kills + 1
        else:
            kills += kill_a_trial(broken, chance)
    assert process.returncode == 0 and kills >= 6
    assert outcome(broken) == outcome(whole)
    assert finished(broken) == ["once\n"] * 6


def kill_a_trial(folder: pathlib.Path, chance: random.Random) -> bool:
    for path in chance.sample(paths := list(folder.glob("trials/*/lock")), len(paths)):
        number = path.read_text()
        if number and pathlib.Path(f"/proc/{number}").exists():
            os.kill(int(number), signal.SIGKILL)
            return True
    return False


def test_halving_stops_early_and_promotes_from_the_checkpoint(tmp_path, capsys):
    found = run(tmp_path, trials=8, seconds=0.3, halve=True)
    steps = steps_of(tmp_path)
    assert all(taken == list(range(1, len(taken) + 1)) for taken in steps.values())  # none twice
    ends = {trial["number"]: len(steps[str(trial["number"])]) for trial in found["trials"]}
    done = {trial["number"] for trial in found["trials"] if trial["state"] == "done"}
    assert done == {number for number, end in ends.items() if end == STEPS} and done
    assert sum(ends.values()) < 0.8 * STEPS * len(ends)
    best = max(found["trials"], key=lambda trial: trial["labels"]["peak"])
    assert best["number"] in done
    assert "goes on beyond rung 1" in capsys.readouterr().out


def test_a_budget_stops_trials_which_a_larger_one_takes_up(tmp_path):
    found = run(tmp_path, trials=2, seconds=0.3, minutes=0.03)
    assert [trial["state"] for trial in found["trials"]] == ["unfinished"] * 2
    before = steps_of(tmp_path)
    assert all(0 < len(taken) < STEPS for taken in before.values())
    found = run(tmp_path, trials=2, seconds=0.01)
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 2
    assert list(steps_of(tmp_path).values()) == [list(range(1, STEPS + 1))] * 2


def test_a_journal_that_a_kill_cut_short_is_read(tmp_path):
    run(tmp_path, trials=1, seconds=0.0)
    journal = tmp_path / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "worker')
    found = run(tmp_path, trials=2, seconds=0.0)
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 2


def test_a_trial_that_always_dies_is_a_failure_and_the_sweep_goes_on(tmp_path):
    found = run(tmp_path, trials=2, seconds=0.0, dies=(0,))
    first, second = found["trials"]
    assert first["state"] == "failed" and second["state"] == "done"
    assert "ended 4 times at the same point (-9): about to die" in first["failure"]
