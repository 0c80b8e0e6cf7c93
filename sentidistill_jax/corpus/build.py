"""Texts to prompts; pure, and the same for the same seed whatever the order of the texts."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence

from sentidistill_jax.corpus import icldist, knowdist
from sentidistill_jax.corpus.leakage import LeakageReport, remove_leaks
from sentidistill_jax.corpus.perspective import Verdict
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.task import Demonstration, Task
from sentidistill_jax.corpus.user_texts import UnlabelledText, UserText, training_texts


def distillation_texts(
    texts: Sequence[UserText], test_sentences: Mapping[str, Sequence[str]]
) -> tuple[list[UnlabelledText], LeakageReport]:
    """Training texts without labels and without whatever resembles a test or a held-out text."""
    held_out = [text.text for text in texts if text.split == "held_out"]
    return remove_leaks(training_texts(texts), {**test_sentences, "held_out": held_out})


def build_knowdist(
    texts: Iterable[UnlabelledText],
    *,
    seed: int,
    perspectives: Mapping[str, float] | None = None,
    per_text: int = 1,
    verdicts: Mapping[str, Verdict] | None = None,
    style: knowdist.PromptStyle = "few_shot",
) -> list[Prompt]:
    """Puts every text to the teacher from some perspectives.

    Args:
      texts: User texts.
      seed: Names the draw of perspectives and wordings.
      perspectives: Perspective -> weight in the draw; all alike by default.
      per_text: Different perspectives that each text is seen from.
      verdicts: Text id -> the teacher's own label; a text without one is asked about without it.
      style: How the teacher is asked, see `knowdist.build_prompt`.

    Raises:
      ValueError: If a perspective or the style is not known.
    """
    weights = perspectives or dict.fromkeys(PERSPECTIVES, 1.0)
    _check_names("perspective", weights, PERSPECTIVES)
    prompts = []
    for text in texts:
        rng = random.Random(f"knowdist/{seed}/{text.id}")
        verdict = (verdicts or {}).get(text.id)
        for name in _weighted_sample(weights, per_text, rng):
            wording = rng.randrange(len(PERSPECTIVES[name].wordings))
            prompts.append(knowdist.build_prompt(name, text, wording, verdict, style))
    return prompts


def build_icldist(
    texts: Sequence[UnlabelledText],
    *,
    seed: int,
    labels: Mapping[str, Mapping[str, str]],
    tasks: Mapping[str, float] | None = None,
    per_text: int = 1,
    teacher_shots: Sequence[int] = (4, 8),
    student_shots: Sequence[int] = (0, 1, 2, 4),
    minimal_fraction: float = 0.25,
    draws: int = 64,
) -> list[Prompt]:
    """Puts every text to the teacher in some tasks.

    Args:
      texts: User texts; they are also the pool of demonstrations.
      seed: Names the draw of tasks, styles and demonstrations.
      labels: Task -> text id -> label that demonstrations carry: the teacher's own labels, or human
        ones where the config allows it. Tasks that compute their answer need none; other tasks that
        are missing here use their handwritten demonstrations.
      tasks: Task -> weight in the draw; all alike by default.
      per_text: Different tasks that each text is put to, as far as that many apply to it.
      teacher_shots: Numbers of demonstrations to choose from.
      student_shots: Numbers of them that the student reads, to choose from.
      minimal_fraction: Share of prompts in the minimal style; the others draw their style.
      draws: Different sets of demonstrations for each task and number; texts that share one in the
        same style share the teacher's prefix too.

    Raises:
      ValueError: If a task is not known, or a label is none of its task's.
    """
    weights = tasks or dict.fromkeys(icldist.TASKS, 1.0)
    _check_names("task", [*weights, *labels], icldist.TASKS)
    for task, label_of in labels.items():
        if icldist.TASKS[task].labels:
            _check_names(f"{task} label", set(label_of.values()), icldist.TASKS[task].labels)
    demonstrations = _DemonstrationDraws(texts, labels, seed)
    prompts = []
    for text in texts:
        rng = random.Random(f"icldist/{seed}/{text.id}")
        suitable = {name: weight for name, weight in weights.items() if _applies(name, text)}
        for name in _weighted_sample(suitable, per_text, rng):
            count, draw = rng.choice(teacher_shots), rng.randrange(draws)
            shown = demonstrations.without(text, name, count, draw)
            minimal = rng.random() < minimal_fraction
            style = icldist.MINIMAL if minimal else _random_style(icldist.TASKS[name], rng)
            shots = min(rng.choice(student_shots), len(shown))
            prompts.append(icldist.build_prompt(name, text, shown, style, shots))
    return prompts


class _DemonstrationDraws:
    """Numbered sets of demonstrations for every task."""

    def __init__(
        self,
        texts: Iterable[UnlabelledText],
        labels: Mapping[str, Mapping[str, str]],
        seed: int,
    ):
        self._texts = sorted(texts, key=lambda text: text.id)
        self._labels = labels
        self._seed = seed
        self._groups: dict[str, tuple[tuple[Demonstration, ...], ...]] = {}
        self._draws: dict[tuple[str, int, int], tuple[Demonstration, ...]] = {}

    def without(
        self, text: UnlabelledText, task: str, count: int, draw: int
    ) -> tuple[Demonstration, ...]:
        """The set of this number; one fewer where `text` itself is in it."""
        key = (task, count, draw)
        if key not in self._draws:
            if task not in self._groups:
                self._groups[task] = icldist.group_by_label(task, self._pool(task))
            rng = random.Random(f"demonstrations/{self._seed}/{task}/{count}/{draw}")
            self._draws[key] = icldist.draw_demonstrations(self._groups[task], count, rng)
        return tuple(one for one in self._draws[key] if one.text != text.text)

    def _pool(self, task: str) -> Sequence[Demonstration]:
        chosen = icldist.TASKS[task]
        if chosen.gold is None and task not in self._labels:
            return chosen.seeds
        answer = chosen.gold or (lambda text: self._labels[task].get(text.id))
        answers = ((text, answer(text)) for text in self._texts)
        return [Demonstration(text.text, label) for text, label in answers if label is not None]


def _applies(task: str, text: UnlabelledText) -> bool:
    gold = icldist.TASKS[task].gold
    return gold is None or gold(text) is not None


def _random_style(task: Task, rng: random.Random) -> icldist.Style:
    # Without demonstrations only an instruction tells the student label words and format, so the
    # wording that has none is left to the minimal style.
    return icldist.Style(
        wording=rng.randrange(1, len(task.wordings)),
        verbalizer=rng.randrange(len(task.verbalizers)),
        format=rng.choice(task.formats),
    )


def _weighted_sample(weights: Mapping[str, float], count: int, rng: random.Random) -> list[str]:
    """Up to `count` different names, drawn one after the other in proportion to their weights."""
    # Exponential clocks ring in the order of weighted draws without replacement.
    clocks = {name: rng.expovariate(weight) for name, weight in weights.items() if weight > 0}
    return sorted(clocks, key=clocks.__getitem__)[:count]


def _check_names(what: str, names: Iterable[str], known: Collection[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r} is not known; expected one of {', '.join(known)}.")
