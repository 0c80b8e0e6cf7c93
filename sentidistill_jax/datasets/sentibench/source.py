"""Where the builder takes SentiBench's files from: a folder at hand, or the official archive."""

import os
import pathlib
import shutil
import tempfile
import zipfile

import requests
import tensorflow_datasets as tfds

from sentidistill_jax.evaluation.checksums import COMMIT, SHA256
from sentidistill_jax.evaluation.data import DATA_DIR_VARIABLE

ARCHIVE_URL = f"https://github.com/HITSZ-HLT/Sentiment-Distillation/archive/{COMMIT}.zip"
_FOLDER = "datasets/"  # in the repository


def find_files(
    source_dir: str | os.PathLike[str] | None, downloads: tfds.download.DownloadManager
) -> pathlib.Path:
    """Returns the folder of SentiBench's files.

    Args:
      source_dir: The folder; None takes SENTIBENCH_DIR, and without that the archive.
      downloads: Fetches the archive, once.

    Raises:
      FileNotFoundError: If there is no such folder.
      ConnectionError: If the archive cannot be fetched.
      ValueError: If what was fetched is no archive.
    """
    chosen = source_dir or os.environ.get(DATA_DIR_VARIABLE)
    if chosen:
        if not pathlib.Path(chosen).is_dir():
            raise FileNotFoundError(
                f"{chosen} is no folder; set source_dir or {DATA_DIR_VARIABLE} to the folder that "
                "holds SentiBench's sc/, multifaced/ and absa/."
            )
        return pathlib.Path(chosen)
    try:
        archive = pathlib.Path(os.fspath(downloads.download(ARCHIVE_URL)))
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise ConnectionError(
            f"{ARCHIVE_URL} could not be fetched ({type(error).__name__}); try again, or set "
            f"{DATA_DIR_VARIABLE} to a folder that holds SentiBench's sc/, multifaced/ and absa/."
        ) from error
    return _unpack(archive)


def _unpack(archive: pathlib.Path) -> pathlib.Path:
    """SentiBench's files beside the archive, and nothing else of it; tfds would want TensorFlow."""
    folder = archive.with_name(f"{archive.name}.files")
    if folder.is_dir():
        return folder
    unfinished = pathlib.Path(tempfile.mkdtemp(dir=archive.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            # The repository lies in a folder named after the commit.
            members = {name.partition("/")[2]: name for name in opened.namelist()}
            for name in SHA256:
                if _FOLDER + name not in members:
                    continue  # the check of the files names it
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / name).write_bytes(opened.read(members[_FOLDER + name]))
        unfinished.rename(folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is no zip file ({error}); remove it and try again.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
