"""`sentidistill teach --verify` and `--inspect`: what they print, and how they refuse."""

import pytest
from helpers import byte_tokenizer, random_cache

from sentidistill_jax.cli import main
from sentidistill_jax.models.load import tokenizer_fingerprint

SHARD = "shard-00001-of-00002"


@pytest.fixture(autouse=True)
def outside_the_repository(tmp_path, monkeypatch):
    """No configs/ folder is at hand: neither flag needs one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tokenizer_directory(tmp_path):
    directory = tmp_path / "teacher"
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def cache(tmp_path, tokenizer_directory):
    tokenizer = byte_tokenizer()
    return random_cache(
        tmp_path / "stage" / "records",
        [(4, 2), (3, 5), (2, 2), (6, 1)],
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        config={"teacher": {"source": str(tokenizer_directory)}},
    )


def test_verify_sums_up_a_sound_cache(cache, capsys):
    for directory in (cache, cache.parent):  # a stage's directory stands for its cache
        assert main(["teach", f"--verify={directory}"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("2 shards, 4 records, 25 tokens (10 of completions)")
        assert "every checksum and key fits" in shown


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "log", "manifest"])
def test_verify_names_damage_in_one_sentence_with_exit_code_2(cache, capsys, damage):
    name = {"log": f"{SHARD}.json", "manifest": "manifest.json"}.get(damage, SHARD)
    data = bytearray((cache / name).read_bytes())
    if damage == "remove":
        (cache / name).unlink()
    elif damage == "cut":
        (cache / name).write_bytes(data[:-5])
    else:
        place = data.index(b"emotion" if damage == "flip" else b"sha256")
        data[place] ^= 1
        (cache / name).write_bytes(data)
    assert main(["teach", "--verify", str(cache)]) == 2
    message = capsys.readouterr().err
    assert name in message and message.count("\n") == 1 and "Traceback" not in message


def test_a_directory_without_a_cache(tmp_path, capsys):
    for flag in ("verify", "inspect"):
        assert main(["teach", f"--{flag}={tmp_path}"]) == 2
        assert "no teacher cache" in capsys.readouterr().err


def test_inspect_shows_manifest_statistics_bars_and_words(cache, capsys):
    assert main(["teach", "--inspect", str(cache)]) == 0
    shown = capsys.readouterr().out
    for text in (
        "teacher_fingerprint: teacher",
        "bytes per completion token",
        "entries per completion token: 4.0, at most 4",
        "nats per completion token",
        "█",
        "labels at 0",
        "prompt tokens, 2 of completion",
    ):
        assert text in shown
    assert "not at hand" not in shown
    # An entry in words: a byte-level token, not an id.
    assert '0 "' in shown or "0 '" in shown


def test_inspect_shows_ids_without_the_tokenizer(cache, tokenizer_directory, capsys):
    for file in tokenizer_directory.iterdir():
        file.unlink()
    tokenizer_directory.rmdir()
    assert main(["teach", "--inspect", str(cache)]) == 0
    assert "token ids, as their tokenizer is not at hand" in capsys.readouterr().out


def test_another_tokenizer_at_the_same_place_is_not_used(cache, tokenizer_directory, capsys):
    byte_tokenizer(["other"]).save_pretrained(tokenizer_directory)
    assert main(["teach", "--inspect", str(cache)]) == 0
    assert "not at hand" in capsys.readouterr().out
