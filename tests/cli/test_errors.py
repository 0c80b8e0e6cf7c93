"""What a user does wrong comes back as one sentence and exit code 2, and nothing is written."""

import pytest

from sentidistill_jax.cli import main
from sentidistill_jax.cli.main import VERBS

CONFIG = "--config=configs/knowdist.py"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ("nonsense", "corpus")),
        (["train", "--config=configs/absent.py"], ("configs/absent.py", "not found")),
        (["train", CONFIG, "--config.optimizer.learning_rat=1"], ("learning_rat", "learning_rate")),
        (["train", CONFIG, "--config.optimizer.learning_rate=fast"], ("fast", "float")),
        (["train", CONFIG, "--config.data.global_batch_size=3"], ("global_batch_size=3", "try 8")),
        (["train", CONFIG, "--config.mesh.data=3"], ("mesh", "3", "data=-1")),
        (["train", CONFIG, "--config.data.global_batch_size=8"], ("not found", "run the stage")),
        (["train", CONFIG, "--spelling=wrong"], ("spelling",)),
        (["train", CONFIG, "stray"], ("stray", "--name=value")),
        (["evaluate", CONFIG], ("--model",)),
        (["predict", "--model=nowhere", "--text=x"], ("nowhere", "no directory")),
        (["predict", "--model=nowhere", "--text=x", "--task=dance"], ("dance", "sentiment")),
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


def test_without_a_verb_the_overview_names_them_all(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
