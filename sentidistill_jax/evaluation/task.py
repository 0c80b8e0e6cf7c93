"""A task of a benchmark with its prompts, its answers and its score; and its items."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

from sentidistill_jax.evaluation.answers import OFFICIAL, ParsedAnswer, ScoringOptions
from sentidistill_jax.evaluation.metrics import MICRO_F1, Metric, macro_f1
from sentidistill_jax.evaluation.prompts import FEW_SHOT, PromptFormat, draw_demonstrations

Split = Literal["train", "val", "test"]
Item = Mapping[str, Any]  # one JSON object of a split; texts are raw, nothing stripped or unescaped
Parser = Callable[[str, str, ScoringOptions], ParsedAnswer]  # answer, sentence, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One data set of a benchmark; made by `label_task` or `tuple_task`.

    The prediction of a label task is an argmax over label words, that of a tuple task is parsed
    from what the model wrote.
    """

    name: str  # folder of the data, e.g. `sc/imdb`
    category: str  # one of the groups that have a mean of their own
    header: str  # first paragraph of the prompt, `%s` for each of `header_fields`
    train_size: int  # items of train.json, the pool of demonstrations
    val_size: int  # items of val.json, which no score reads; 0 where there is none
    test_size: int  # items of test.json, all of them evaluated
    fields: tuple[str, ...]  # keys every item must have
    gold: Callable[[Item], Any]  # label index, or the tuples in the order they are shown
    show: Callable[[Item], str]  # the text after `Label:` where an item is a demonstration
    metric: Metric
    label_words: tuple[str, ...] = ()  # index order, leading space; () for tuple tasks
    parse: Parser | None = None  # never raises on what a model wrote; None for label tasks
    list_field: str = ""  # tuple tasks: the field that lists the annotations
    list_item_fields: tuple[str, ...] = ()  # keys every annotation must have
    header_fields: tuple[str, ...] = ()  # fields of the test item that the header names
    format: PromptFormat = FEW_SHOT

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in index order, without the leading space of `label_words`."""
        return tuple(word[1:] for word in self.label_words)

    @property
    def split_sizes(self) -> dict[Split, int]:
        """Split -> its number of items, of the splits that there are."""
        sizes: dict[Split, int] = {
            "train": self.train_size, "val": self.val_size, "test": self.test_size,
        }  # fmt: skip
        return {split: size for split, size in sizes.items() if size}

    @property
    def split_files(self) -> dict[Split, str]:
        """Split -> its file, relative to the folder of the benchmark."""
        return {split: f"{self.name}/{split}.json" for split in self.split_sizes}

    def extract_answer(self, generation: str, options: ScoringOptions = OFFICIAL) -> str:
        """Returns the answer in a generated continuation, possibly empty.

        Raises:
          ValueError: If this is a label task, whose generations are never read (Q13).
        """
        if self.label_words:
            raise ValueError(
                f"{self.name} is a label task: its generations are never read, pass the argmax over"
                " the label words' scores to `score`."
            )
        return self.format.extract(generation, lenient=options.lenient_parsing)

    def parse_answer(
        self, answer: str, sentence: str, options: ScoringOptions = OFFICIAL
    ) -> ParsedAnswer:
        """Parses an extracted answer; never raises on what a model wrote.

        Args:
          answer: What `extract_answer` returned.
          sentence: The test sentence.
          options: Deviations from the reference.

        Raises:
          ValueError: If this is a label task.
        """
        if self.parse is None:
            raise ValueError(
                f"{self.name} is a label task: its prediction is an argmax over label words, "
                "there is no answer to parse."
            )
        return self.parse(answer, sentence, options)


def label_task(
    name: str,
    category: str,
    header: str,
    label_words: tuple[str, ...],
    *,
    sizes: tuple[int, int, int],
    show: Callable[[Item], str] | None = None,
    header_fields: tuple[str, ...] = (),
) -> Task:
    """Makes a task with a label per sentence, scored by macro-F1.

    Items have the fields `sentence`, `label` (a label name in any case) and those of the header.
    `sizes` are those of train, val and test; everything else is as in `Task`.
    """
    labels = [word[1:] for word in label_words]
    return Task(
        name=name,
        category=category,
        header=header,
        train_size=sizes[0],
        val_size=sizes[1],
        test_size=sizes[2],
        fields=("sentence", *header_fields, "label"),
        gold=lambda item: labels.index(item["label"].lower()),
        show=show or (lambda item: item["label"].lower()),
        metric=macro_f1(len(labels)),
        label_words=label_words,
        header_fields=header_fields,
    )


def tuple_task(
    name: str,
    category: str,
    header: str,
    *,
    gold: Callable[[Item], list[tuple[str, ...]]],
    parse: Parser,
    list_field: str,
    list_item_fields: tuple[str, ...],
    sizes: tuple[int, int, int],
    fields: tuple[str, ...] = (),
    metric: Metric = MICRO_F1,
) -> Task:
    """Makes a task with a list of tuples per sentence.

    Items have the fields `sentence`, `list_field` and `fields`. `sizes` are those of train, val
    and test; everything else is as in `Task`.
    """
    return Task(
        name=name,
        category=category,
        header=header,
        train_size=sizes[0],
        val_size=sizes[1],
        test_size=sizes[2],
        fields=(*fields, "sentence", list_field),
        gold=gold,
        show=lambda item: str(gold(item)),
        metric=metric,
        parse=parse,
        list_field=list_field,
        list_item_fields=list_item_fields,
    )


@dataclasses.dataclass(frozen=True, eq=False)  # compared by identity, hence usable as a cache key
class Dataset:
    """Both splits of one task, in file order."""

    task: Task
    train: tuple[Item, ...]  # the pool of demonstrations
    test: tuple[Item, ...]  # the evaluated items

    def prompt(
        self, index: int, seed: int, k: int, *, dropped: int = 0, sentence: str | None = None
    ) -> str:
        """Returns the prompt of a test item.

        Args:
          index: Position in the test split, from 0.
          seed: Seed of the demonstrations.
          k: Demonstrations drawn per prompt.
          dropped: How many of them to leave out, those furthest from the test sentence first.
          sentence: Stands in the place of the test sentence.

        Raises:
          IndexError: If there is no such test item.
          ValueError: If k is negative or larger than the pool.
        """
        task = self.task
        if not 0 <= index < len(self.test):
            raise IndexError(
                f"index={index} is outside the {len(self.test)} test items of {task.name}."
            )
        item = self.test[index]
        drawn = draw_demonstrations(len(self.train), len(self.test), seed, k)[index][dropped:]
        header = task.header
        if task.header_fields:
            header %= tuple(item[field] for field in task.header_fields)
        shown = ((self.train[at]["sentence"], self._shown[at]) for at in drawn)
        return task.format.render(header, shown, item["sentence"] if sentence is None else sentence)

    def development_set(self, examples: int) -> "Dataset":
        """Returns the same task without its test split, to choose a checkpoint by.

        Args:
          examples: The last so many of the training items take the place of the test items; the
            others remain the pool of demonstrations.
        """
        return Dataset(self.task, self.train[:-examples], self.train[-examples:])

    @functools.cached_property
    def _shown(self) -> tuple[str, ...]:
        return tuple(self.task.show(item) for item in self.train)
