import collections
import json
import subprocess
import sys

import pytest

from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH

TASKS = SENTIBENCH.tasks


def test_twelve_tasks_four_per_category():
    occurrences = collections.Counter(task.category for task in TASKS.values())
    assert occurrences == dict.fromkeys(("basic", "multifaceted", "fine-grained"), 4)
    assert SENTIBENCH.categories == tuple(occurrences)


def test_published_typos_are_kept():
    asqp, opener = TASKS["absa/asqp_rest16"].header, TASKS["absa/opener"].header
    assert "'drinks prices','drinks quality'" in asqp and "'restaurant pcrices'" in asqp
    assert "sentiment polarity). \n\nEach tuple" in opener


def test_fine_grained_tasks_have_annotations_and_label_tasks_labels():
    for task in TASKS.values():
        assert bool(task.label_words) != bool(task.list_field)
        assert bool(task.label_words) == (task.metric.name == "macro_f1")
        assert task.header.count("%s") == len(task.header_fields)


def test_labels_drop_only_the_leading_space():
    assert TASKS["multifaced/intimacy"].labels[0] == "not intimate"


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"dataset='sc/imbd' is not in SentiBench.*sc/imdb"):
        SENTIBENCH.task("sc/imbd")


def test_label_tasks_take_labels_in_any_case():
    stance = {"label": "FAVOR", "target": "Joe Biden"}
    assert TASKS["multifaced/pstance"].show(stance) == "favor(opinion towards 'Joe Biden')"
    assert TASKS["sc/imdb"].show({"label": "Positive"}) == "positive"
    assert TASKS["multifaced/irony18"].gold({"label": "non-irony"}) == 0


@pytest.mark.golden
def test_headers_and_label_words_are_the_published_bytes(golden_dir):
    published = json.loads((golden_dir / "headers.json").read_text())
    assert {name: task.header for name, task in TASKS.items()} == published["headers"]
    words = {name: list(task.label_words) for name, task in TASKS.items() if task.label_words}
    assert words == published["label_strings_in_order"]


def test_scorer_loads_no_jax():
    code = "import sys, sentidistill_jax.evaluation.benchmarks; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
