"""Where each artifact of a run lies under its working directory."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths only; nothing is created."""

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
        return self.root / "corpus" / stage

    def cache(self, stage: str) -> pathlib.Path:
        """Teacher cache of a stage."""
        return self.root / "cache" / stage

    def student(self, name: str) -> pathlib.Path:
        """Training run: checkpoints, metrics, and the trained model under `model`."""
        return self.root / "students" / name

    def evaluation(self, name: str) -> pathlib.Path:
        """Scores and predictions of one model."""
        return self.root / "evaluation" / name

    def model_source(self, source: str) -> str:
        """`students/<name>` becomes the trained model's directory; anything else stays as it is."""
        candidate = self.root / source / "model"
        return str(candidate) if candidate.is_dir() else source
