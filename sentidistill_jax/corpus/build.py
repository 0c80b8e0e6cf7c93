"""Texts to prompts; pure, and the same for the same seed whatever the order of the texts."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence

from sentidistill_jax.corpus import icldist, knowdist
from sentidistill_jax.corpus.leakage import LeakageReport, remove_leaks
from sentidistill_jax.corpus.perspective import Verdict
from sentidistill_jax.corpus.perspectives import PERSPECTIVES
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.corpus.sampling import shares
from sentidistill_jax.corpus.task_texts import TaskTexts
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
    count: int,
    tasks: Mapping[str, float] | None = None,
    leave_out: Collection[str] = (),
    bare_fraction: float = 0.25,
    teacher_shots: Sequence[int] = (4, 8),
    student_shots: Sequence[int] = (0, 1, 2, 4),
    minimal_fraction: float = 0.25,
    draws: int = 64,
    max_words: int = 0,
    max_labels: int = 0,
) -> list[Prompt]:
    """Makes a mixture of tasks: a share of bare sentiment prompts, the rest in many styles.

    Each task draws its own texts, from those that it applies to and, where its answer is a label,
    that carry one, as evenly over the labels as there are texts. What a task has too few texts for
    goes to the others.

    Args:
      texts: User texts; they are also the pool of demonstrations.
      seed: Names the draw of texts, styles and demonstrations.
      labels: Task -> text id -> the teacher's own label. Demonstrations carry these labels too.
      count: Prompts in all, as far as the texts go.
      tasks: Task -> weight in the mixture; by default all that have texts, alike.
      leave_out: Tasks that there are no prompts of.
      bare_fraction: Share of bare prompts: zero-shot, without an instruction, as the headline
        evaluation asks. Too many of them and the student only ever sees the question of its test.
      teacher_shots: Numbers of demonstrations to choose from.
      student_shots: Numbers of them that the student reads, to choose from; in the minimal style at
        least one, since nothing else tells it the task.
      minimal_fraction: Share of the other prompts in the minimal style; the rest draw their style.
      draws: Different sets of demonstrations for each task and number; texts that share one in the
        same style share the teacher's prefix too.
      max_words: Most words of what the student reads; 0 sets no limit. It reads fewer
        demonstrations where they would make more, and a prompt still longer is left out.
      max_labels: Texts of each task whose labels are used, a draw; 0 uses all. The draw of fewer is
        part of that of more.

    Raises:
      ValueError: If a task is not known or has no text, a label is none of its task's,
        `bare_fraction` is not a share, or bare prompts ask for a task that is left out.
    """
    if not 0 <= bare_fraction <= 1:
        raise ValueError(f"bare_fraction={bare_fraction} must lie between 0 and 1.")
    if bare_fraction and "sentiment" in leave_out:
        raise ValueError(
            f"icldist.leave_out={sorted(leave_out)} and icldist.bare_fraction={bare_fraction}"
            " contradict each other: bare prompts ask for the sentiment; set bare_fraction=0."
        )
    _check_names("task", [*(tasks or ()), *labels, *leave_out], icldist.TASKS)
    for task, label_of in labels.items():
        _check_names(f"{task} label", set(label_of.values()), icldist.TASKS[task].labels)
    if max_labels:
        labels = {
            task: {
                text_id: label_of[text_id] for text_id in _drawn(task, label_of, max_labels, seed)
            }
            for task, label_of in labels.items()
        }
    pool = TaskTexts(texts, labels, seed)
    bare = pool.bare(round(bare_fraction * count))
    prompts = [icldist.build_prompt("sentiment", text, ()) for text in bare]
    weights = {
        name: weight
        for name, weight in (tasks or dict.fromkeys(icldist.TASKS, 1.0)).items()
        if name not in leave_out
    }
    available = {name: len(pool.suitable(name)) for name in weights}
    for name in weights if tasks else ():
        if not available[name]:
            raise ValueError(
                f"task {name!r} applies to none of the {len(texts)} texts; leave it out of"
                " icldist.tasks or, if its answer is a label, put it into annotate.tasks."
            )
    for name, number in shares(count - len(prompts), weights, available).items():
        for text in pool.draw(name, number):
            rng = random.Random(f"icldist/{seed}/{name}/{text.id}")
            shown = pool.demonstrations(
                name, rng.choice(teacher_shots), rng.randrange(draws), without=text
            )
            minimal = rng.random() < minimal_fraction
            style = _minimal_style(name) if minimal else _random_style(name, rng)
            least = min(int(minimal), len(shown))
            shots = min(max(rng.choice(student_shots), least), len(shown))
            prompt = icldist.build_prompt(name, text, shown, style, shots)
            while shots > least and _too_long(prompt, max_words):
                shots -= 1
                prompt = icldist.build_prompt(name, text, shown, style, shots)
            if not _too_long(prompt, max_words):
                prompts.append(prompt)
    return prompts


def _drawn(task: str, label_of: Mapping[str, str], count: int, seed: int) -> list[str]:
    def rank(text_id: str) -> float:
        return random.Random(f"labels/{seed}/{task}/{text_id}").random()

    return sorted(label_of, key=rank)[:count]


def _too_long(prompt: Prompt, max_words: int) -> bool:
    return 0 < max_words < len(prompt.prompt.split())


def _minimal_style(task: str) -> icldist.Style:
    return icldist.Style(format=icldist.TASKS[task].formats[0])


def _random_style(task: str, rng: random.Random) -> icldist.Style:
    chosen = icldist.TASKS[task]
    # Without demonstrations only an instruction tells the student label words and format, so the
    # wording that has none is left to the minimal style.
    return icldist.Style(
        wording=rng.randrange(1, len(chosen.wordings)),
        verbalizer=rng.randrange(len(chosen.verbalizers)),
        format=rng.choice(chosen.formats),
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
