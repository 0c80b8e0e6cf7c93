import collections
import json
import subprocess
import sys

import pytest

from sentidistill_jax.evaluation.tasks import CATEGORIES, TASKS, get_task


def test_twelve_tasks_four_per_category():
    occurrences = collections.Counter(task.category for task in TASKS.values())
    assert occurrences == dict.fromkeys(CATEGORIES, 4)


def test_published_typos_are_kept():
    asqp, opener = TASKS["absa/asqp_rest16"].header, TASKS["absa/opener"].header
    assert "'drinks prices','drinks quality'" in asqp and "'restaurant pcrices'" in asqp
    assert "sentiment polarity). \n\nEach tuple" in opener


def test_fine_grained_tasks_have_annotations_and_label_tasks_labels():
    for task in TASKS.values():
        assert bool(task.label_words) != bool(task.list_field)
        assert bool(task.label_words) == (task.metric == "macro_f1")
        assert ("%s" in task.header) == task.has_target


def test_labels_drop_only_the_leading_space():
    assert TASKS["multifaced/intimacy"].labels[0] == "not intimate"


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"dataset='sc/imbd' is not in SentiBench.*sc/imdb"):
        get_task("sc/imbd")


@pytest.mark.golden
def test_headers_and_label_words_are_the_published_bytes(golden_dir):
    published = json.loads((golden_dir / "headers.json").read_text())
    assert {name: task.header for name, task in TASKS.items()} == published["headers"]
    words = {name: list(task.label_words) for name, task in TASKS.items() if task.label_words}
    assert words == published["label_strings_in_order"]


def test_scorer_imports_no_jax():
    code = "import sys, sentidistill_jax.evaluation.official; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
