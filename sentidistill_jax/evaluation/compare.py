"""Is one model better than another on SentiBench? Paired tests on their stored predictions."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from sentidistill_jax.evaluation import results, scoring
from sentidistill_jax.evaluation.data import Dataset
from sentidistill_jax.evaluation.significance import Comparison, paired_randomisation
from sentidistill_jax.evaluation.tasks import TASKS

Runs = Mapping[int, Sequence[results.Line]]  # seed -> lines in test order


def runs_by_dataset(lines: Iterable[results.Line]) -> dict[str, dict[int, list[results.Line]]]:
    """Sorts the lines of predictions.jsonl; those of other sets than SentiBench's are left out."""
    found: dict[str, dict[int, list[results.Line]]] = {}
    datasets = {results.set_name(name): name for name in TASKS}
    for line in lines:
        if line["set"] in datasets:
            of_dataset = found.setdefault(datasets[line["set"]], {})
            of_dataset.setdefault(line["seed"], []).append(line)
    return found


def compare(
    first: Iterable[results.Line],
    second: Iterable[results.Line],
    load: Callable[[str], Dataset],
) -> dict[str, Comparison]:
    """Tests the difference in F1 on every data set that both models were asked.

    With several seeds the difference is that of the means, and a sentence is exchanged in all.

    Args:
      first: Lines of a model's predictions.jsonl.
      second: Those of the other.
      load: Data set by name.

    Returns:
      Data set -> difference (first - second) and p-value.

    Raises:
      ValueError: If they share no data set, or one was asked with other seeds or examples.
    """
    one, other = runs_by_dataset(first), runs_by_dataset(second)
    shared = [name for name in TASKS if name in one and name in other]
    if not shared:
        raise ValueError(
            f"the models share no data set of SentiBench ({sorted(one)} and {sorted(other)});"
            " evaluate both on the same ones."
        )
    return {name: _compare(load(name), one[name], other[name]) for name in shared}


def _compare(data: Dataset, first: Runs, second: Runs) -> Comparison:
    sizes = [{seed: len(lines) for seed, lines in runs.items()} for runs in (first, second)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{data.task.name}: examples by seed are {sizes[0]} and {sizes[1]}; evaluate both"
            " models with the same seeds and examples."
        )
    counts = []
    for runs in (first, second):
        by_seed = []
        for seed in sorted(runs):
            predictions = results.predictions(data.task, runs[seed])
            items = data.test[: len(runs[seed])]
            of_seed, statistic = scoring.sentence_counts(data.task, items, predictions)
            by_seed.append(of_seed)
        counts.append(np.concatenate(by_seed, axis=1))
    mean = results.mean_of(statistic, len(first))
    return paired_randomisation(counts[0], counts[1], mean, seed=0)
