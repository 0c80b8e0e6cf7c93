"""A user's own sources: how they are named, and every format that they may have."""

import gzip
import json
import pathlib
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds

from sentidistill_jax.corpus.raw_text import RawText
from sentidistill_jax.corpus.sources import Tally, parse_sources, read_source

ROWS = [
    {"body": 'first, and "quoted"', "stars": 5, "key": "a"},
    {"body": "second", "stars": 1, "key": "b"},
    {"body": "third", "stars": None, "key": "c"},
]
TEXTS = [
    RawText('first, and "quoted"', "positive", id="a"),
    RawText("second", "negative", id="b"),
    RawText("third", None, id="c"),
]
SPEC = "#body#label=stars#labels=five_stars#id=key"


def read(entry: Any) -> list[RawText]:
    (source,) = parse_sources([entry])
    return list(read_source(source, pathlib.Path("nowhere"), Tally()))


def table() -> pyarrow.Table:
    return pyarrow.Table.from_pylist(ROWS)


def write_jsonl(path: pathlib.Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def write_separated(path: pathlib.Path, separator: str = ",") -> None:
    lines = [f'"{row["body"].replace(chr(34), 2 * chr(34))}"' for row in ROWS]
    lines = [
        separator.join((line, str(row["stars"] or ""), row["key"]))
        for line, row in zip(lines, ROWS, strict=True)
    ]
    path.write_text("\ufeff" + "\n".join([separator.join(ROWS[0]), *lines]), "utf-8")


def pack(path: pathlib.Path, ending: str) -> None:
    content = path.read_bytes()
    if ending == "gz":
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        with pyarrow.output_stream(str(path.with_name(f"{path.name}.{ending}"))) as file:
            file.write(content)
    path.unlink()


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.csv.gz", "a.jsonl.zst", "a.tsv.bz2"]
)
def test_every_format_gives_the_same_texts(name, tmp_path):
    plain = tmp_path / ".".join(name.split(".")[:2])
    if plain.suffix == ".parquet":
        pyarrow.parquet.write_table(table(), plain)
    elif plain.suffix == ".jsonl":
        write_jsonl(plain)
    else:
        write_separated(plain, "\t" if plain.suffix == ".tsv" else ",")
    if len(name.split(".")) == 3:
        pack(plain, name.split(".")[2])
    assert read(f"{tmp_path / name}{SPEC}") == TEXTS


def test_a_text_file_has_a_text_a_line(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\ufefffirst text\n\nsecond text", "utf-8")
    assert [raw.text.strip() for raw in read(str(path))] == ["first text", "second text"]


def test_a_hugging_face_folder_names_its_classes(tmp_path):
    classes = table().set_column(1, "stars", pyarrow.array([1, 0, None], pyarrow.int64()))
    names = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {"stars": names}}))
    with pyarrow.OSFile(str(tmp_path / "data-00000-of-00001.arrow"), "wb") as file:
        with pyarrow.ipc.new_stream(file, classes.schema) as writer:
            writer.write_table(classes)
    assert read(f"{tmp_path}#body#label=stars#id=key") == TEXTS


class OwnReviews(tfds.core.GeneratorBasedBuilder):
    """Three reviews."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "body": tfds.features.Text(),
            "stars": tfds.features.ClassLabel(names=["neg", "pos"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, row in enumerate(ROWS[:2]):
            yield number, {"body": row["body"], "stars": int(row["stars"] > 3)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_data_set_that_tensorflow_datasets_has_prepared(tmp_path, monkeypatch):
    builder: Any = OwnReviews(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    expected = [RawText(text.text, text.human_label) for text in TEXTS[:2]]
    entry = f"tfds:{builder.data_dir}/train#body#label=stars"
    assert read(entry) == expected
    with pytest.raises(ValueError, match=r"has no column 'text'; it has body, stars"):
        read(entry.partition("#")[0])
    with pytest.raises(ValueError, match=r"tfds:.* cannot be read .* prepared with --file_format"):
        read(f"tfds:{builder.data_dir}/test#body")


def test_several_files_are_one_source_and_files_of_one_name_are_two(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for part in (1, 2):
            (tmp_path / folder / f"part-{part}.txt").write_text(f"{folder}{part}")
    assert [raw.text for raw in read(f"{tmp_path}/*/part-*.txt")] == ["a1", "a2", "b1", "b2"]
    entries = (
        "movie", f"{tmp_path}/a/part-*.txt", f"{tmp_path}/b/part-*.txt", "movie.csv",
        "reviews.csv.gz", f"{tmp_path}/a/*.txt", "shop=x.parquet", "tfds:imdb_reviews/train",
    )  # fmt: skip
    assert [source.name for source in parse_sources(entries)] == [
        "movie", "part", "part-2", "movie-2", "reviews-2", "a", "shop", "imdb_reviews",
    ]  # fmt: skip


def test_a_mapping_says_what_a_word_says(tmp_path):
    word = "shop=data/lang=en/*.csv#body#label=stars#labels=five_stars#max=7#held_out=fold:2"
    mapping = dict(
        name="shop", path="data/lang=en/*.csv", text="body", label="stars", labels="five_stars",
        max=7, held_out="fold:2",
    )  # fmt: skip
    assert parse_sources([word]) == parse_sources([mapping])
    write_separated(tmp_path / "a.csv")
    own = dict(path=f"{tmp_path}/a.csv", text="body", label="stars", labels={5: "neutral"})
    assert [raw.human_label for raw in read(own)] == ["neutral", None, None]


def test_rows_without_a_text_are_counted(tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"text": "fine"}\n{"body": "x"}\n{"text": 3}\n{"text": " "}\n')
    tally = Tally()
    (source,) = parse_sources([str(path)])
    assert list(read_source(source, tmp_path, tally)) == [RawText("fine")]
    assert tally.dropped == {"no_text": 3}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{', r"a.jsonl:2 is not JSON \(.*\); expected an object"),
        ("a.jsonl", b'["text"]', r"a.jsonl:1 is no JSON object"),
        ("a.jsonl", b'{"body": "x"}', r"a.jsonl:1 has no column 'text'; it has body\."),
        ("a.csv", b"body,stars\nx,1\n", r"a.csv has no column 'text'; it has body, stars\."),
        ("a.csv", b"text\ncaf\xe9\n", r"a.csv is not UTF-8 \(byte 0xe9\); convert it"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path / name))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("imdb", r"source 'imdb' is not known; expected movie, amazon.* \.parquet"),
        ("movie,amazon", r"several are written \"\('movie','my.csv#body'\)\""),
        ("a.csv#lable=x", r"has \['lable'\]; its fields are path, name, text, label"),
        ({"name": "shop"}, r"has no path"),
        ("a.csv#max=many", r"max='many'; it is a number"),
        ("a.csv#labels=stars", r"labels='stars'; expected one of words, five_stars, or a mapping"),
        ({"path": "a.csv", "labels": {"1": "bad"}}, r"a mapping to negative, neutral, positive"),
        ("a.csv#held_out=some", r"held_out='some'; expected hash, all, none or COLUMN:VALUE"),
    ],
)
def test_bad_sources(entry, message):
    with pytest.raises(ValueError, match=message):
        parse_sources([entry])


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"No user texts at missing\.txt; correct"):
        read("missing.txt")
