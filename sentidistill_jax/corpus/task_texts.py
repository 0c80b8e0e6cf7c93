"""The texts that each ICLDist task can use, and draws of them and of demonstrations."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.sampling import draw_texts, shares
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText

_DEMONSTRATION_WORDS = 40  # prompts with several longer ones are mostly demonstration


class TaskTexts:
    """User texts as tasks see them.

    Args:
      texts: User texts, in any order.
      labels: Task -> text id -> the teacher's own label.
      seed: Names all draws.
    """

    def __init__(
        self,
        texts: Iterable[UnlabelledText],
        labels: Mapping[str, Mapping[str, str]],
        seed: int,
    ):
        self._texts = sorted(texts, key=lambda text: text.id)
        self._labels = labels
        self._seed = seed
        self._suitable: dict[str, list[UnlabelledText]] = {}
        self._groups: dict[str, tuple[tuple[Demonstration, ...], ...]] = {}
        self._drawn: dict[tuple[str, int, int], tuple[Demonstration, ...]] = {}

    def suitable(self, task: str) -> list[UnlabelledText]:
        """The texts that a task applies to and whose answer is computed, labelled or free."""
        if task not in self._suitable:
            chosen = icldist.TASKS[task]
            fitting = (text for text in self._texts if chosen.applies_to(text))
            self._suitable[task] = [
                text for text in fitting if not chosen.labels or self._answer(task, text)
            ]
        return self._suitable[task]

    def bare(self, count: int) -> list[UnlabelledText]:
        """A draw of texts for bare sentiment prompts."""
        return draw_texts(self.suitable("sentiment"), count, key=f"icldist/{self._seed}/bare")

    def draw(self, task: str, count: int) -> list[UnlabelledText]:
        """A draw of suitable texts, as many of each label where the answers are labels."""
        is_label = bool(icldist.TASKS[task].labels)
        groups: dict[str, list[UnlabelledText]] = defaultdict(list)
        for text in self.suitable(task):
            label = self._answer(task, text) if is_label else None
            groups[label or ""].append(text)
        sizes = {label: len(group) for label, group in groups.items()}
        return [
            text
            for label, part in shares(count, dict.fromkeys(groups, 1.0), sizes).items()
            for text in draw_texts(groups[label], part, key=f"icldist/{self._seed}/{task}/{label}")
        ]

    def demonstrations(
        self, task: str, count: int, draw: int, *, without: UnlabelledText
    ) -> tuple[Demonstration, ...]:
        """A numbered set of demonstrations; one fewer where the text `without` is in it."""
        key = (task, count, draw)
        if key not in self._drawn:
            if task not in self._groups:
                self._groups[task] = icldist.group_by_label(task, self._pool(task))
            rng = random.Random(f"demonstrations/{self._seed}/{task}/{count}/{draw}")
            self._drawn[key] = icldist.draw_demonstrations(self._groups[task], count, rng)
        return tuple(one for one in self._drawn[key] if one.text != without.text)

    def _pool(self, task: str) -> Sequence[Demonstration]:
        """Short texts with a computed answer or the teacher's label, or else handwritten ones."""
        chosen = icldist.TASKS[task]
        if chosen.gold is None and not chosen.labels:
            return chosen.seeds
        pool = []
        for text in self.suitable(task):
            if len(text.text.split()) > _DEMONSTRATION_WORDS:
                continue
            answer = self._answer(task, text)
            subject = chosen.subject(text) if chosen.subject is not None else None
            assert answer is not None
            pool.append(Demonstration(text.text, answer, subject or ""))
        return pool

    def _answer(self, task: str, text: UnlabelledText) -> str | None:
        """The computed answer or the teacher's label, as far as there is one."""
        gold = icldist.TASKS[task].gold
        return gold(text) if gold is not None else self._labels.get(task, {}).get(text.id)
