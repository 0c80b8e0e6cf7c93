"""What a file of tasks or perspectives may hold, and what is said of what it may not."""

import pytest

from sentidistill_jax.corpus.definition_files import load_definitions
from sentidistill_jax.corpus.icldist import TASKS
from sentidistill_jax.corpus.perspectives import PERSPECTIVES

TASK = """
[{name}]
labels = {labels}
wordings = [{{instruction = "{instruction}"}}]
demonstrations = [{{text = "a", label = "{label}"}}, {{text = "b", label = "no"}}]
{more}
"""


def task(name="mine", labels='["yes", "no"]', instruction="Is it {options}?", label="yes", more=""):
    return TASK.format(name=name, labels=labels, instruction=instruction, label=label, more=more)


@pytest.fixture(autouse=True)
def tables_as_they_were():
    before = dict(TASKS), dict(PERSPECTIVES)
    yield
    load_definitions((), ())
    assert before == (TASKS, PERSPECTIVES)
    assert [list(table) for table in before] == [list(TASKS), list(PERSPECTIVES)]  # draws need it


@pytest.fixture
def read(tmp_path):
    def load(content: str) -> None:
        path = tmp_path / "mine.toml"
        path.write_text(content)
        load_definitions([str(path)], ())

    return load


def test_defaults_and_that_the_files_named_last_count(read):
    read(task(name="gut_feeling"))
    defined = TASKS["gut_feeling"]
    assert defined.label_name == "Gut feeling" and defined.verbalizers == (("yes", "no"),)
    assert [wording.instruction for wording in defined.wordings] == ["", "Is it {options}?"]
    assert defined.formats == TASKS["sentiment"].formats
    read(task())
    assert "mine" in TASKS and "gut_feeling" not in TASKS


def test_an_embedded_task_is_replaced_by_one_of_the_same_labels(read):
    own = task("sentiment", '["positive", "negative"]', "Gut {options}?", "positive")
    own = own.replace('"no"', '"negative"')
    position = list(TASKS).index("sentiment")
    read(own)
    assert TASKS["sentiment"].wordings[1].instruction == "Gut {options}?"
    assert list(TASKS).index("sentiment") == position
    with pytest.raises(ValueError, match=r"expected those of the task: \['positive', 'negative'\]"):
        read(task("sentiment"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[mine", r"mine.toml is no TOML"),
        ("mine = 3", r"'mine' is no table; write \[mine\]"),
        ("[mine]\n", r"mine.toml: 'mine' lacks labels; add it"),
        (task(labels='["yes"]'), r"labels = \['yes'\]; expected 2 to 8 different ones"),
        (task(label="maybe"), r"demonstrations has label = 'maybe'; expected one of yes, no"),
        (task(label="no"), r"some of each label, also of 'yes'"),
        (task(instruction="Is it {this}?"), r"instruction = 'Is it {this}\?'; .* no braces but"),
        (task(more='words = [["aye"]]'), r"words = \['aye'\]; expected 2 words"),
        (task(more='formats = ["xml"]'), r"formats = \['xml'\]; expected some of plain, json"),
        (task(more='colour = "red"'), r"no field 'colour'; its fields are labels, words, formats"),
    ],
)
def test_bad_tasks(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_missing_files():
    with pytest.raises(FileNotFoundError, match=r"no file 'absent.toml'; correct"):
        load_definitions(["absent.toml"], ())
