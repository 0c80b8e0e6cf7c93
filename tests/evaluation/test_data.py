import json
import shutil

import pytest

from sentidistill_jax.evaluation import data
from sentidistill_jax.evaluation.checksums import SHA256
from sentidistill_jax.evaluation.tasks import TASKS

INTIMACY = TASKS["multifaced/intimacy"]
ASQP = TASKS["absa/asqp_rest16"]


def _write(folder, task, split, items):
    path = folder / task.name / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(items if isinstance(items, str) else json.dumps(items), encoding="utf-8-sig")


def _intimacy_items(count=INTIMACY.test_size):
    return [{"sentence": f" text {i}\u0085", "label": "Not Intimate"} for i in range(count)]


def test_reads_both_splits_raw_and_once(tmp_path):
    _write(tmp_path, INTIMACY, "train", _intimacy_items(INTIMACY.train_size))
    _write(tmp_path, INTIMACY, "test", _intimacy_items())
    dataset = data.load_dataset(INTIMACY.name, tmp_path)
    assert dataset.test[3]["sentence"] == " text 3\u0085"
    assert len(dataset.train) == INTIMACY.train_size
    assert data.load_dataset(INTIMACY.name, str(tmp_path)) is dataset


def test_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTIBENCH_DIR", str(tmp_path))
    assert data.resolve_data_dir() == tmp_path
    monkeypatch.delenv("SENTIBENCH_DIR")
    with pytest.raises(FileNotFoundError, match="SENTIBENCH_DIR is not set"):
        data.resolve_data_dir()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"intimacy/test.json is missing"):
        data.read_split(INTIMACY, "test", tmp_path)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("[{", r"intimacy/test.json is not valid JSON"),
        (_intimacy_items(395), r"test.json holds 395 items, expected a JSON array of 396"),
        ({}, r"test.json holds dict items, expected a JSON array of 396"),
        ([*_intimacy_items(395), {"sentence": "x"}], r"item 395: found \['sentence'\], expected"),
        ([*_intimacy_items(395), "x"], r"item 395: found str, expected an object"),
        (
            [*_intimacy_items(395), {"sentence": "x", "label": "Intimate"}],
            r"item 395: label='Intimate', expected one of \['not intimate'",
        ),
    ],
)
def test_malformed_file_is_described(tmp_path, items, message):
    _write(tmp_path, INTIMACY, "test", items)
    with pytest.raises(ValueError, match=message):
        data.read_split(INTIMACY, "test", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / INTIMACY.name / "test.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(_intimacy_items(), ensure_ascii=False), encoding=encoding)
    with pytest.raises(ValueError, match=r"test.json is not UTF-8 \(byte 0x.. at \d+\), expected"):
        data.read_split(INTIMACY, "test", tmp_path)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ("[]", r"item 0: quards is a str, expected a list"),
        ([{"category": "food quality"}], r"item 0, quards: found \['category'\], expected"),
    ],
)
def test_malformed_annotation_is_described(tmp_path, annotations, message):
    _write(tmp_path, ASQP, "test", [{"sentence": "x", "quards": annotations}] * ASQP.test_size)
    with pytest.raises(ValueError, match=message):
        data.read_split(ASQP, "test", tmp_path)


@pytest.mark.sentibench
def test_published_files_are_what_the_tasks_describe(sentibench_dir):
    for name, task in TASKS.items():
        dataset = data.load_dataset(name, sentibench_dir)
        assert (len(dataset.train), len(dataset.test)) == (task.train_size, task.test_size), name
        assert all(item["sentence"].strip() for item in dataset.test), name


@pytest.mark.sentibench
def test_verify_names_the_altered_file(sentibench_dir, tmp_path):
    data.verify(sentibench_dir)
    for name in SHA256:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sentibench_dir / name, tmp_path / name)
    with (tmp_path / "sc/sst2/test.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"^sc/sst2/test.json \(expected SHA-256 01ae.*differ"):
        data.verify(tmp_path)
    (tmp_path / "sc/imdb/val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"sc/imdb/val.json"):
        data.verify(tmp_path)
