"""Where each artifact of a run lies under its working directory, and what it was made from."""

import dataclasses
import pathlib
from collections.abc import Iterable

from sentidistill_jax.artifact import file_fingerprint


@dataclasses.dataclass(frozen=True)
class Workdir:
    """A working directory; nothing is created here.

    Raises:
      ValueError: Where a name would lead out of the folder that it is for.
    """

    root: pathlib.Path

    @property
    def texts(self) -> pathlib.Path:
        """train.jsonl without labels, held_out.jsonl with them."""
        return self.root / "texts"

    @property
    def annotations(self) -> pathlib.Path:
        """The teacher's own labels of training texts, and its calibration offsets."""
        return self.root / "annotations"

    def prompts(self, stage: str) -> pathlib.Path:
        """Corpus of a stage."""
        return self.root / "corpus" / _name(stage)

    def difficulty(self, stage: str) -> pathlib.Path:
        """How difficult the texts are for the model by which the corpus of a stage is filtered."""
        return self.root / "difficulty" / _name(stage)

    def cache(self, stage: str) -> pathlib.Path:
        """Teacher cache of a stage."""
        return self.root / "cache" / _name(stage)

    def student(self, name: str) -> pathlib.Path:
        """Training run: checkpoints, metrics, and the trained model under `model`."""
        return self.root / "students" / _name(name)

    def evaluation(self, name: str) -> pathlib.Path:
        """Scores and predictions of one model."""
        return self.root / "evaluation" / _name(name)

    def model_source(self, source: str) -> str:
        """`students/<name>` becomes the trained model's directory; anything else stays as it is.

        Raises:
          FileNotFoundError: If no student of that name is trained; it lists those that are.
        """
        path = self.find_model(source)
        if path is None:
            trained = sorted(path.parent.name for path in self.root.glob("students/*/model"))
            names = ", ".join(f"students/{name}" for name in trained) or "none yet"
            raise FileNotFoundError(
                f"no trained student {source!r} under {self.root}; there are: {names}."
            )
        return path

    def find_model(self, source: str) -> str | None:
        """As `model_source`; None where no student of that name is trained."""
        candidate = self.root / source / "model"
        if candidate.is_dir():
            return str(candidate)
        is_missing = source.startswith("students/") and not pathlib.Path(source).is_dir()
        return None if is_missing else source

    def student_caches(self, stages: Iterable[str]) -> dict[pathlib.Path, str]:
        """Caches by which a student is cut, and hashes of their manifests.

        Raises:
          FileNotFoundError: If one is not finished.
        """
        found = {}
        for stage in sorted(stages):
            manifest = self.cache(stage) / "manifest.json"
            if not manifest.is_file():
                raise FileNotFoundError(
                    f"{manifest} not found, and the student is cut by what is in it; run"
                    f" `sentidistill teach` for {stage} first, or change student.caches."
                )
            found[self.cache(stage) / "records"] = file_fingerprint(manifest)
        return found


def _name(name: str) -> str:
    """The name of one folder, which is no path."""
    if name in ("", ".", "..") or pathlib.PurePath(name).name != name or not name.isprintable():
        raise ValueError(
            f"name={name!r} must be the name of a folder, without / and control characters."
        )
    return name
