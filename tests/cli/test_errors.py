"""What a user does wrong comes back as one sentence and exit code 2, and nothing is written."""

import errno
import pathlib

import pytest

from sentidistill_jax.cli import main
from sentidistill_jax.cli.main import VERBS
from sentidistill_jax.errors import Interrupted, NonFiniteLossError, StorageError

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=configs/knowdist.py"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)


def test_what_one_process_does_alone_the_others_leave_to_it(tmp_path, monkeypatch, capsys):
    arguments = ["report", str(tmp_path)]
    for variable in ("SENTIDISTILL_PROCESS_ID", "SLURM_PROCID"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert main(arguments) == 0
            assert "process 1 of a job leaves 'report' to process 0" in capsys.readouterr().err
            patch.setenv(variable, "0")
            assert main(arguments) == 2  # nothing to report on
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ("nonsense", "corpus")),
        (["train", "--config=configs/absent.py"], ("configs/absent.py", "not found")),
        (["train", "--config", "configs/absent.py"], ("configs/absent.py", "not found")),
        (["train", "--config=configs/demo.py"], ("no field 'mesh'", "configs/base.py", "demo")),
        (["train", "--config=README.md"], ("README.md:", "no Python config")),
        (
            ["train", CONFIG, "--config.optimizer.learning_rat=1"],
            ("'learning_rat'; did you mean 'learning_rate'?",),
        ),
        (["train", "--config=knowdits"], ("'knowdits'", "not found", "one of base, demo, icldist")),
        (["train", "--config=sentidistill_jax/errors.py"], ("no function get_config",)),
        (["train", CONFIG, "--config.nothing.here=1"], ("no field 'nothing'", "configs/base.py")),
        (["train", CONFIG, "--config.optimizer.learning_rate=fast"], ("fast", "float")),
        (["train", CONFIG, "--config.data.global_batch_size=3"], ("global_batch_size=3", "try 8")),
        (["train", CONFIG, "--config.data.global_batch_size=0"], ("global_batch_size=0", "1")),
        (["train", CONFIG, "--config.data.micro_batches=0"], ("data.micro_batches=0", "1")),
        (["train", CONFIG, "--config.data.epochs=-1"], ("data.epochs=-1", "at least 0")),
        (["train", CONFIG, "--config.checkpoint.interval=0"], ("checkpoint.interval=0", "1")),
        (["train", CONFIG, "--config.mesh.data=3"], ("mesh", "3", "data=-1")),
        (
            ["train", CONFIG, "--config.data.global_batch_size=8"],
            ("not found", "run `sentidistill teach`"),
        ),
        (["train", CONFIG, "--config.data.global_batch_size=8", "--config.name=../x"], ("'../x'",)),
        (
            ["evaluate", CONFIG, "--model=smollm2-135m-instruct", "--name=../x"],
            ("'../x'", "folder"),
        ),
        (["train", CONFIG, "--spelling=wrong"], ("spelling",)),
        (["train", CONFIG, "stray"], ("stray", "--name=value")),
        (["corpus", CONFIG, "--config.stage=both"], ("stage='both'", "'icldist', 'knowdist'")),
        (["corpus", CONFIG, "--config.texts.held_out_fraction=2.0"], ("=2.0", "between 0 and 1")),
        (["corpus", CONFIG, "--config.texts.sources=poems"], ("'poems'", ".jsonl")),
        (["corpus", CONFIG, "--config.texts.folder=nowhere"], ("nowhere", "run the set-up")),
        (["corpus", CONFIG, "--config.texts.sentibench_dir=nowhere"], ("nowhere", "not found")),
        (["teach", CONFIG], ("prompts.jsonl not found", "run `sentidistill corpus`")),
        (["evaluate", CONFIG], ("--model is missing", "--model=VALUE")),
        (["evaluate", CONFIG, "--model=teacher"], ("annotations", "run `sentidistill corpus`")),
        (["report"], ("no scores.json", "sentidistill evaluate")),
        (["export", "--model=students/x"], ("--output is missing",)),
        (["export", "--model=students/x", "--output=configs"], ("'configs'", "exists already")),
        (["export", "--model=gpt", "--output=x", "--dtype=int8"], ("int8", "float32|bfloat16")),
        (["predict", "--model=nowhere", "--text=x"], ("nowhere", "no directory")),
        (
            ["predict", "--model=students/bth", "--text=x"],
            ("'students/bth'", "there are: none yet"),
        ),
        (["predict", "--model=Qwen/Qwen3-0.6B", "--text=x"], ("hf download Qwen/Qwen3-0.6B",)),
        (["predict", "--model=nowhere", "--text=x", "--task=dance"], ("dance", "sentiment")),
        (["predict", "--model=x", "--input=setup.py"], ("--input and --output", "both")),
        (["predict", "--model=x", "--input=x.csv", "--output=y.csv"], ("x.csv", "not found")),
        (["predict", "--model=x", "--input=setup.py", "--output=y.csv"], ("setup.py", ".jsonl")),
        (["predict", "--model=x", "--input=x.csv", "--output=y.pdf"], ("y.pdf", ".jsonl or .csv")),
    ],
)
def test_one_sentence_and_exit_code_2(arguments, words, tmp_path, capsys):
    workdir = tmp_path / "run"
    if arguments[0] in VERBS:
        arguments = [*arguments, f"--workdir={workdir}"]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    for word in words:
        assert word in message
    assert not workdir.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"sentidistill {verb}: ") and "--workdir" in shown


def test_a_bug_of_ours_is_not_taken_for_the_users(monkeypatch, tmp_path):
    from sentidistill_jax.stages import train

    def broken(config, workdir):
        raise AttributeError("'NoneType' object has no attribute 'x'")

    monkeypatch.setattr(train, "train_student", broken)
    with pytest.raises(AttributeError, match="NoneType"):
        main(["train", CONFIG, f"--workdir={tmp_path}"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NonFiniteLossError("step 3: loss nan."), 1),
        (Interrupted("saved."), 130),
        (OSError(errno.EIO, "Input/output error"), 75),
        (OSError(errno.ESTALE, "Stale file handle"), 75),
        (StorageError("[Errno 30] Read-only file system; run again."), 75),
        (BlockingIOError("run is being written by process 3 on host."), 75),
        (PermissionError(errno.EACCES, "Permission denied"), 2),
        (OSError(errno.EROFS, "Read-only file system"), 2),
    ],
)
def test_exit_codes_of_runs_that_stop(error, code, monkeypatch, tmp_path, capsys):
    from sentidistill_jax.stages import train

    def stops(config, workdir):
        raise error

    monkeypatch.setattr(train, "train_student", stops)
    assert main(["train", CONFIG, f"--workdir={tmp_path}"]) == code
    assert str(error) in capsys.readouterr().err


def test_without_a_verb_the_overview_names_them_all(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
