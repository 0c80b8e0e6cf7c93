"""What `report` reads, refuses and does without, and its tables."""

import json
import re

import pytest

from sentidistill_jax.cli import main
from sentidistill_jax.reporting.runs import read_scores, read_training
from sentidistill_jax.reporting.tables import table
from sentidistill_jax.stages.report import report

from .write_run import (
    label_lines,
    scores_of,
    sentibench_summary,
    write_metrics,
    write_model,
    write_texts,
)

SET = "held_out/reviews"
LINES = label_lines(SET, [0, 1, 1, 0], [0, 1, 0, 0])


@pytest.fixture(autouse=True)
def no_sentibench(monkeypatch):
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)


def write(workdir, *names):
    for name in names:
        write_model(workdir, name, {SET: scores_of(LINES)}, LINES)


def test_runs_are_compared_under_their_names(tmp_path, capsys):
    for run in ("one", "two"):
        write(tmp_path / run, "before", "after")
    arguments = ["report", str(tmp_path / "one"), str(tmp_path / "two"), "--format=text"]
    assert main([*arguments, "--reference=two/before"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["F1,", "%", "reviews", "(4)"]
    assert [row.split()[:2] for row in rows[1:5]] == [
        [name, "73.3"] for name in ("one/before", "one/after", "two/before", "two/after")
    ]
    files = {path.name for path in (tmp_path / "one" / "report").iterdir()}
    assert files == {"table.txt", "report.html", "scores.png"}


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    workdirs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    for workdir in workdirs:
        write(workdir, "before")
    assert [model.name for model in read_scores(workdirs)] == [f"{w}/before" for w in workdirs]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference=other"], ("reference='other'", "choose one of before")),
        (["--format=html"], ("html", "text|markdown|latex")),
        (["--examples=-1"], ("-1", "examples")),
        (["nowhere"], ("nowhere/evaluation holds no scores.json",)),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, capsys, arguments, words):
    write(tmp_path / "run", "before")
    assert main(["report", str(tmp_path / "run"), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and all(word in message for word in words)
    assert not (tmp_path / "run" / "report").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no scores .*Expecting"),
        ('{"schema_version": 2, "model": "x"}', "holds no scores .*'sets'"),
        ('{"schema_version": 2, "model": "x", "sets": {"a": {}}}', "holds no scores .*'f1'"),
        ('{"schema_version": 3, "model": "x", "sets": {}}', "schema_version=3, expected 2"),
    ],
)
def test_scores_of_another_kind_are_refused(tmp_path, text, message):
    path = tmp_path / "evaluation" / "x" / "scores.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_scores([tmp_path])


def test_bare_scores_are_enough(tmp_path):
    """No interval, no predictions, no texts, no metrics: the page says what is missing."""
    write_model(tmp_path, "a", {SET: {"f1": 0.5, "metric": "macro_f1"}})
    write_model(tmp_path, "b", {"held_out/tweets": {"f1": 0.25, "metric": "macro_f1"}})
    assert report([tmp_path], tmp_path / "out").splitlines()[2:] == [
        "| a | 50.0 | - |",
        "| b | - | 25.0 |",
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a has no predictions.jsonl" in page and "no training metrics" in page


def test_calibrated_variants_have_rows_of_their_own(tmp_path):
    bare = {"f1": 0.5, "examples": 9}
    label = bare | {
        "metric": "macro_f1",
        "variants": {"batch_calibration": {"f1": 0.625, "interval_95": [0.6, 0.65]}},
    }
    tuples = bare | {"metric": "micro_f1", "variants": {"lenient": {"f1": 0.75}}}
    sets = {"sentibench/sc/sst2": label, "sentibench/absa/atsa_rest16": tuples}
    write_model(tmp_path, "both", sets)
    assert table(read_scores([tmp_path]), "latex").splitlines()[4:6] == [
        r"both & 50.0 & 50.0 \\",
        r"both, batch calibration & 62.5 [60.0, 65.0] & - \\",
    ]
    report([tmp_path], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sst2, batch calibration, both: 62.5 (60.0 to 65.0)" in page
    assert "atsa_rest16, lenient" in page and "atsa_rest16, lenient, both" not in page


def test_sizes_that_differ_stand_beside_their_scores(tmp_path):
    for name, examples in (("few", 4), ("many", 60)):
        entry = {"f1": 0.5, "metric": "macro_f1", "examples": examples}
        write_model(tmp_path, name, {SET: entry, "held_out/tweets": entry | {"examples": 9}})
    rows = table(read_scores([tmp_path]), "markdown").splitlines()
    assert rows[0] == "| F1, % | reviews | tweets (9) |"
    assert rows[2:] == ["| few | 50.0 n=4 | 50.0 |", "| many | 50.0 n=60 | 50.0 |"]


def test_auc_stands_beside_f1_where_it_is_known(tmp_path):
    lines = label_lines("held_out/reviews", [0, 1], [0, 1])
    for name, more in (("with", {"auc": 0.8125}), ("without", {})):
        write_model(tmp_path, name, {"held_out/reviews": scores_of(lines, **more)})
    text = report([tmp_path], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    (known,) = (line for line in text.splitlines() if "AUC" in line)
    assert "| with " in known and "AUC 81.2" in known
    assert page.count("AUC 81.2") == 1


def test_the_best_of_a_row_is_marked_where_there_is_a_choice(tmp_path):
    for name, f1 in (("low", 0.5), ("high", 0.75)):
        write_model(tmp_path / "both", name, {SET: {"f1": f1, "metric": "macro_f1"}})
    write_model(tmp_path / "alone", "low", {SET: {"f1": 0.5, "metric": "macro_f1"}})
    for run, best in (("both", ["75.0"]), ("alone", [])):
        report([tmp_path / run], tmp_path / run / "out")
        page = (tmp_path / run / "out" / "report.html").read_text()
        assert re.findall(r'<td class="best"><span class="value">([\d.]+)', page) == best


def test_confusion_is_shown_as_shares_of_the_gold_label(tmp_path):
    write(tmp_path, "before")
    report([tmp_path], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<td style="--share: 0.500">1</td>' in page[page.index("<h2>Confusion") :]


def test_metrics_leave_out_a_line_that_was_cut_short(tmp_path):
    write_metrics(tmp_path, "both", [3.0, 2.0])
    with (tmp_path / "students" / "both" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/lo')
    (run,) = read_training([tmp_path])
    assert (run.name, run.series) == ("both", {"train/loss": ([1, 2], [3.0, 2.0])})


def test_means_over_sentibench_only_where_all_of_it_was_asked(tmp_path):
    sets = {"sentibench/sc/sst2": {"f1": 0.9, "metric": "macro_f1", "examples": 1821}}
    values = {"sc/sst2": 0.9}
    whole = sentibench_summary(values, deviation=0.005)
    write_model(tmp_path, "whole", sets, sentibench=whole)
    write_model(tmp_path, "part", sets, sentibench=whole | {"complete": False})
    rows = [line.split(" | ") for line in table(read_scores([tmp_path]), "markdown").splitlines()]
    assert rows[0][1:] == ["sst2 (1821)", "basic", "multifaceted", "fine-grained", "average |"]
    assert rows[2] == ["| whole", "90.0", "22.5", "0.0", "0.0", "7.5 ± 0.5 |"]
    assert rows[3] == ["| part", "90.0", "-", "-", "-", "- |"]
    report([tmp_path], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "part was not asked all of SentiBench" in page


def test_a_broken_line_of_predictions_is_left_out_of_the_pairs(tmp_path):
    write(tmp_path, "before", "after")
    write_texts(tmp_path, ["a", "b", "c", "d"])
    path = tmp_path / "evaluation" / "after" / "predictions.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3][:20]]))
    model = next(m for m in read_scores([tmp_path]) if m.name == "after")
    assert list(model.predictions[SET]) == [("", "0"), ("", "1"), ("", "2")]
    assert json.loads(lines[2])["predicted"] == model.predictions[SET]["", "2"]["predicted"]
