"""The functions of `import sentidistill_jax as sd`, which the verbs of the command line call."""

import re
import subprocess
import sys

import pytest

import sentidistill_jax as sd
from sentidistill_jax import api


def test_the_package_has_the_functions_and_brings_jax_only_with_them():
    assert set(sd.__all__) <= set(dir(sd))
    assert sd.train is api.train and sd.load_config is api.load_config
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = sd.trian  # type: ignore[attr-defined]
    program = "import sys, sentidistill_jax; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_its_example_calls_functions_that_are_there():
    called = set(re.findall(r"sd\.(\w+)\(", str(api.__doc__)))
    assert called == set(sd.__all__)


def test_a_config_is_as_the_command_line_makes_it(tmp_path):
    fields = {"texts.sources": ("mine.txt",), "optimizer.learning_rate": 1e-3}
    config = sd.load_config("icldist:smoke", fields)
    assert config.stage == "icldist" and config.annotate.draws == 1
    assert config.texts.sources == ("mine.txt",) and config.optimizer.learning_rate == 1e-3
    for wrong in ({"texts.source": ()}, {"text.sources": ()}):
        with pytest.raises(KeyError):
            sd.load_config("icldist", wrong)
    with pytest.raises(AttributeError):
        config.texts.source = ()
    with pytest.raises(FileNotFoundError, match="'icldits' not found"):
        sd.load_config("icldits")


def test_own_texts_without_a_teacher_are_told_what_is_missing(tmp_path):
    config = sd.load_config(fields={"texts.sources": (str(tmp_path / "absent.csv"),)})
    with pytest.raises(FileNotFoundError, match=r"No user texts at .*absent\.csv"):
        sd.build_corpus(config, tmp_path / "run")
