"""A student before training: a model cut in depth, width and vocabulary."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from sentidistill_jax.artifact import fingerprint
from sentidistill_jax.corpus import icldist
from sentidistill_jax.data.teacher_cache import CacheReader, open_cache
from sentidistill_jax.data.vocabulary_map import token_counts
from sentidistill_jax.evaluation.benchmarks import SENTIBENCH
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.importance import (
    choose_layers,
    largest,
    residual_statistics,
    width_importance,
)
from sentidistill_jax.models.load import LoadedModel, load_model, tokenizer_fingerprint
from sentidistill_jax.models.pruning import (
    PRUNABLE_AXES,
    prune_depth,
    prune_width,
    width_pruned_config,
)
from sentidistill_jax.models.refit import refit
from sentidistill_jax.models.trimmed_vocabulary import (
    TrimmedVocabulary,
    choose_tokens,
    trim_tokenizer,
)


@dataclasses.dataclass(frozen=True)
class Cut:
    """What of a model its student keeps; fields as in configs/base.py.

    Raises:
      ValueError: If fields contradict one another.
    """

    layers: tuple[int, ...] = ()  # (): all, unless num_layers says how many
    num_layers: int = 0
    layer_choice: str = "first"
    widths: Mapping[str, int] = dataclasses.field(default_factory=dict)  # embed, mlp, kv_heads
    vocabulary: str = "full"
    vocabulary_size: int = 0
    measured_sequences: int = 32
    refit_sequences: int = 0  # 0: the weights that are kept stay as they are

    def __post_init__(self):
        if self.layers and self.num_layers:
            raise ValueError(
                f"student.layers={self.layers} and student.num_layers={self.num_layers} both say"
                " what to keep; set layers to () or num_layers to 0."
            )
        if self.vocabulary not in ("full", "corpus"):
            raise ValueError(f"student.vocabulary={self.vocabulary!r} must be 'full' or 'corpus'.")
        if self.vocabulary_size and self.vocabulary == "full":
            raise ValueError(
                f"student.vocabulary_size={self.vocabulary_size} needs student.vocabulary='corpus'."
            )
        if self.measured_sequences < 1:
            raise ValueError(
                f"student.measured_sequences={self.measured_sequences} must be at least 1."
            )
        if self.refit_sequences < 0:
            raise ValueError(f"student.refit_sequences={self.refit_sequences} must be at least 0.")
        if self.refit_sequences and self.widths.get("embed"):
            raise ValueError(
                f"student.refit_sequences={self.refit_sequences} cannot be done with"
                f" student.slice.embed={self.widths['embed']}: a narrower hidden state cannot be"
                " fitted to that of the source; set one of them to 0."
            )

    @classmethod
    def of(cls, student: Mapping[str, Any]) -> "Cut":
        """What a config's section `student` keeps of its source."""
        names = {field.name for field in dataclasses.fields(cls)} - {"layers", "widths"}
        return cls(
            layers=tuple(student["layers"]),
            widths=dict(student["slice"]),
            **{name: student[name] for name in names},
        )

    @property
    def needs_texts(self) -> bool:
        """Whether caches decide something of it."""
        by_importance = self.num_layers > 0 and self.layer_choice == "importance"
        by_texts = by_importance or self.refit_sequences > 0 or self.vocabulary == "corpus"
        return by_texts or any(self.widths.values())


def student_config(config: ModelConfig, cut: Cut) -> ModelConfig:
    """The shape of the student that a model becomes, without its weights or any text.

    Which layers are kept by importance is not known here: the first ones stand for them. The
    vocabulary is as large as `cut.vocabulary_size` allows; the whole one where only texts decide.

    Raises:
      ValueError: If the model has no such layers or widths.
    """
    layers = cut.layers
    if cut.num_layers:
        layers = choose_layers(cut.num_layers, cut.layer_choice, np.zeros((config.num_layers,)))
    if layers:
        config = config.with_layers(layers)
    sizes = _sizes(config, cut)
    if cut.vocabulary_size:
        sizes["vocab"] = min(cut.vocabulary_size, config.vocab_size)
    return width_pruned_config(config, sizes)


def load_student(
    source: str,
    cut: Cut,
    mesh: Mesh,
    caches: Sequence[pathlib.Path] = (),
    *,
    dtype: DTypeLike,
    remat: str = "none",
) -> LoadedModel:
    """The student before training.

    Args:
      source: The model that it is cut from.
      cut: What to keep of it.
      mesh: Where its parameters go.
      caches: Directories of finished teacher caches, by which importance and tokens are found; not
        opened where neither is asked for.
      dtype: Of its products.
      remat: What the backward pass computes once more.

    Raises:
      CacheMismatchError: If a cache is of another tokenizer, chat template or vocabulary.
      ValueError: If the model has no such layers, widths or tokens.
    """
    loaded = load_model(source, mesh, dtype=dtype, remat=remat)
    expect = cache_of(loaded)
    readers = [open_cache(cache, expect=expect) for cache in caches] if cut.needs_texts else []
    return cut_student(loaded, cut, readers, mesh)


def cache_of(model: LoadedModel) -> dict[str, object]:
    """What the manifest of a cache must say so that a model can learn from it."""
    return {
        "tokenizer_fingerprint": model.cache_tokenizer,
        "chat_template_fingerprint": fingerprint(model.tokenizer.chat_template),
        "vocab_size": model.cache_vocab_size,
    }


def cut_student(
    model: LoadedModel, cut: Cut, readers: Sequence[CacheReader], mesh: Mesh
) -> LoadedModel:
    """The part of a model that a student starts from; the same for the same caches.

    Args:
      model: Stays as it is; what is not cut is shared with it.
      cut: What to keep.
      readers: Caches whose sequences decide what matters; unused unless `cut.needs_texts`.
      mesh: Where the parameters are.

    Raises:
      ValueError: If the model has no such layers, widths or tokens.
    """
    decoder = model.decoder
    student_config(decoder.config, cut)  # refuses what cannot be cut before anything is measured
    with jax.set_mesh(mesh):
        layers = cut.layers
        if cut.num_layers:
            influence = np.zeros((decoder.config.num_layers,))
            if cut.layer_choice == "importance":
                sequences = _sequences(model, cut.measured_sequences, readers)
                influence = residual_statistics(decoder, sequences, mesh).influence
            layers = choose_layers(cut.num_layers, cut.layer_choice, influence)
        if layers:
            decoder = prune_depth(decoder, layers)
        decoder = _narrow(decoder, model, cut, readers, mesh)
        if cut.refit_sequences:
            sequences = _sequences(model, cut.refit_sequences, readers)
            every = range(model.decoder.config.num_layers)
            decoder = refit(decoder, model.decoder, layers or every, sequences, mesh)
        if cut.vocabulary == "full":
            return dataclasses.replace(model, decoder=decoder)
        return _trim(decoder, model, cut, readers, mesh)


def _narrow(
    decoder: Decoder, model: LoadedModel, cut: Cut, readers: Sequence[CacheReader], mesh: Mesh
) -> Decoder:
    """Keeps the channels and heads of most importance; full widths change nothing."""
    kept: dict[str, np.ndarray] = {}
    gains, importance = None, None
    sequences = _sequences(model, cut.measured_sequences, readers) if cut.needs_texts else []
    for axis, width in _sizes(decoder.config, cut).items():
        if axis == "embed":
            full = decoder.config.embed_dim
            energy = residual_statistics(decoder, sequences, mesh).energy
            kept[axis] = largest(energy.sum(axis=0), width)
            # Norms that keep, on average, the size of what is left.
            gains = np.sqrt(full / width * energy[:, kept[axis]].sum(axis=1))
        else:
            importance = importance or width_importance(decoder, sequences, mesh)
            kept[axis] = largest(importance[axis], width)
    return prune_width(decoder, kept, mesh, norm_gains=gains) if kept else decoder


def _sizes(config: ModelConfig, cut: Cut) -> dict[str, int]:
    """The widths that the cut makes smaller."""
    sizes = {}
    for axis, width in cut.widths.items():
        full = getattr(config, PRUNABLE_AXES[axis])
        if not 0 <= width <= full:
            raise ValueError(
                f"student.slice.{axis}={width} must be 1 to {full}, the width of the model (0: all"
                " of it)."
            )
        if width not in (0, full):
            sizes[axis] = width
    return sizes


def _sequences(model: LoadedModel, count: int, readers: Sequence[CacheReader]) -> list[np.ndarray]:
    """Those with the smallest keys, which are hashes: a draw that is always the same."""
    every = [
        (reader.keys[index].tobytes(), source, index)
        for source, reader in enumerate(readers)
        for index in range(len(reader))
    ]
    sequences = []
    for _, source, index in sorted(every)[:count]:
        tokens = readers[source][index].tokens
        sequences.append(tokens if model.trimmed is None else model.trimmed.new_ids[tokens])
    return sequences


def _trim(
    decoder: Decoder, model: LoadedModel, cut: Cut, readers: Sequence[CacheReader], mesh: Mesh
) -> LoadedModel:
    """Keeps the tokens of the caches' sequences, of label words, and those all texts need."""
    if model.trimmed is not None:
        raise ValueError(
            f"student.vocabulary='corpus', but the vocabulary of {model.source} is trimmed already;"
            " set it to 'full'."
        )
    vocab_size = decoder.config.vocab_size
    occurrences, expected = token_counts(readers, vocab_size)
    needed = set(np.flatnonzero(occurrences).tolist())
    for word in label_words():
        for text in (word, f" {word}"):
            needed |= set(model.tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    kept = choose_tokens(model.tokenizer, needed, expected, cut.vocabulary_size)
    return dataclasses.replace(
        model,
        decoder=prune_width(decoder, {"vocab": kept}, mesh),
        tokenizer=trim_tokenizer(model.tokenizer, kept),
        trimmed=TrimmedVocabulary(kept, vocab_size, tokenizer_fingerprint(model.tokenizer)),
        # Its ids were those of the whole vocabulary; the tokenizer knows the new ones.
        generation={n: v for n, v in model.generation.items() if not n.endswith("_token_id")},
    )


def label_words() -> list[str]:
    """The answers of all label tasks, of the corpus and of SentiBench."""
    corpus = [
        word
        for task in icldist.TASKS.values()
        for verbalizer in task.verbalizers
        for word in verbalizer
    ]
    benchmark = (word for task in SENTIBENCH.tasks.values() for word in task.labels)
    return sorted({*corpus, *benchmark})
