"""Leakage guard: finds user texts that stand, word for word or nearly, in test data."""

import json
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from sentidistill_jax.corpus.cleaning import words


class _Text(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def text(self) -> str: ...


TextT = TypeVar("TextT", bound=_Text)


@dataclass(frozen=True)
class Leak:
    """A user text and the test sentence of one data set that it matches best."""

    text_id: str
    source: str
    dataset: str
    kind: Literal["exact", "near"]
    containment: float  # share of the shorter side's shingles that the other side has
    text: str
    sentence: str


@dataclass(frozen=True)
class LeakageReport:
    """What was compared and every match found; a text may match several data sets."""

    texts_checked: int
    texts_dropped: int
    sentences_checked: dict[str, int]  # data set -> test sentences
    leaks: list[Leak]

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Dropped texts: source -> data set -> {"exact": n, "near": n}, without empty entries."""
        table: dict[str, dict[str, dict[str, int]]] = {}
        for leak in self.leaks:
            cell = table.setdefault(leak.source, {}).setdefault(
                leak.dataset, {"exact": 0, "near": 0}
            )
            cell[leak.kind] += 1
        return table

    def examples(self, per_cell: int = 2) -> list[Leak]:
        """The first `per_cell` matches of every source, data set and kind."""
        seen: Counter[tuple[str, str, str]] = Counter()
        chosen = []
        for leak in self.leaks:
            cell = (leak.source, leak.dataset, leak.kind)
            seen[cell] += 1
            if seen[cell] <= per_cell:
                chosen.append(leak)
        return chosen


def load_test_sentences(sentibench_dir: pathlib.Path) -> dict[str, list[str]]:
    """Reads the sentences of every `<category>/<data set>/test.json` under a SentiBench folder.

    Raises:
      FileNotFoundError: If the folder holds no such file.
    """
    files = sorted(sentibench_dir.glob("*/*/test.json"))
    if not files:
        raise FileNotFoundError(
            f"No test files at {sentibench_dir}/<category>/<data set>/test.json; correct the path."
        )
    return {
        file.parent.name: [row["sentence"] for row in json.loads(file.read_text("utf-8-sig"))]
        for file in files
    }


def remove_leaks(
    texts: Iterable[TextT],
    test_sentences: Mapping[str, Sequence[str]],
    *,
    shingle_words: int = 5,
    min_containment: float = 0.5,
) -> tuple[list[TextT], LeakageReport]:
    """Drops the texts that match a test sentence.

    A match is exact if the normalised texts are equal. It is near if at least `min_containment` of
    the word shingles of the shorter side occur in the longer side, so that a sentence inside a long
    review is found too. Sentences of fewer than `shingle_words` words have no shingles and match
    only exactly. At the defaults the few matches between unrelated texts are stock phrases.

    Args:
      texts: The texts to check, in any order.
      test_sentences: Data set -> sentences that must not be trained on.
      shingle_words: Words in a shingle; fewer find looser rewordings and more stock phrases.
      min_containment: In (0, 1]; the least containment of a near match.

    Returns:
      The texts without a match, in their order, and the report.
    """
    if not 0 < min_containment <= 1:
        raise ValueError(f"min_containment={min_containment} must lie in (0, 1].")
    index = _SentenceIndex(test_sentences, shingle_words)
    kept, leaks, checked = [], [], 0
    for text in texts:
        checked += 1
        found = index.matches(text, min_containment)
        if found:
            leaks.extend(found)
        else:
            kept.append(text)
    sizes = {dataset: len(sentences) for dataset, sentences in test_sentences.items()}
    return kept, LeakageReport(checked, checked - len(kept), sizes, leaks)


class _SentenceIndex:
    """Test sentences by normalised form and by shingle."""

    def __init__(self, test_sentences: Mapping[str, Sequence[str]], shingle_words: int):
        self._shingle_words = shingle_words
        self._sentences: list[tuple[str, str]] = []  # (data set, sentence)
        self._sizes: list[int] = []  # distinct shingles of each sentence
        self._by_form: dict[str, list[int]] = defaultdict(list)
        self._by_shingle: dict[str, list[int]] = defaultdict(list)
        for dataset, sentences in test_sentences.items():
            for sentence in sentences:
                number = len(self._sentences)
                found = words(sentence)
                shingles = _shingles(found, shingle_words)
                self._sentences.append((dataset, sentence))
                self._sizes.append(len(shingles))
                self._by_form["".join(found)].append(number)
                for shingle in shingles:
                    self._by_shingle[shingle].append(number)

    def matches(self, text: _Text, min_containment: float) -> list[Leak]:
        """The best match in each data set that has one."""
        best: dict[str, Leak] = {}
        found = words(text.text)

        def offer(number: int, kind: Literal["exact", "near"], containment: float) -> None:
            dataset, sentence = self._sentences[number]
            if dataset not in best or best[dataset].containment < containment:
                best[dataset] = Leak(
                    text.id, text.source, dataset, kind, containment, text.text, sentence
                )

        for number in self._by_form.get("".join(found), ()):
            offer(number, "exact", 1.0)
        shingles = _shingles(found, self._shingle_words)
        shared = Counter(
            number for shingle in shingles for number in self._by_shingle.get(shingle, ())
        )
        for number, count in sorted(shared.items()):
            containment = count / min(len(shingles), self._sizes[number])
            if containment >= min_containment:
                offer(number, "near", containment)
        return list(best.values())


def _shingles(found: Sequence[str], length: int) -> set[str]:
    return {" ".join(found[start : start + length]) for start in range(len(found) - length + 1)}
