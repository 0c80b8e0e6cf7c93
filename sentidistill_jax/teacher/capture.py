"""Prompts to teacher cache: the one loop that asks, drops what is not worth learning, and writes.

Answers come from a loaded teacher (`local_answers.py`) or a served one (`served_answers.py`).
"""

import pathlib
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import jax
from tqdm import tqdm

from sentidistill_jax import distributed
from sentidistill_jax.corpus.records import Prompt
from sentidistill_jax.data.teacher_cache import CacheManifest, CacheWriter, ShardBuilder
from sentidistill_jax.errors import storage_errors
from sentidistill_jax.teacher.answers import CapturedAnswer

_MOST_WAITING = 64  # answers that may wait for the thread that encodes them


class TeacherAnswers(Protocol):
    """A teacher, loaded or served, as the capture asks it."""

    @property
    def num_processes(self) -> int:
        """Processes that divide the shards among them."""
        ...

    @property
    def spans_processes(self) -> bool:
        """Whether one teacher lies over all of them, so that each must ask every prompt."""
        ...

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, CapturedAnswer]]:
        """Yields (index of the prompt, its answer) in no given order."""
        ...


@storage_errors()
def capture(
    teacher: TeacherAnswers,
    prompts: Sequence[Prompt],
    directory: pathlib.Path,
    manifest: CacheManifest,
) -> dict[str, dict[str, int]]:
    """Writes the shards that are missing, and the manifest; started again, it goes on there.

    All processes that divide the shards call this with the same arguments. Process i of n writes
    the shards whose number is i modulo n. If each holds a teacher of its own, it asks the prompts
    of these alone; if one teacher spans them, all run the same program over all prompts.

    A thread encodes what the teacher has answered while it answers the next prompts. A shard is on
    the disk before the next is begun, so a process that is killed redoes no more than one.

    Args:
      teacher: Whom to ask.
      prompts: All of the corpus.
      directory: Folder of the cache.
      manifest: What the cache is made from, `num_prompts` being those given.

    Returns:
      Counts of all prompts by kind: `kept`, and those without a record by reason.

    Raises:
      StorageError: If the disk or mount fails.
      ValueError: If no answer is worth learning, or a record does not fit the manifest.
    """
    writer = CacheWriter(directory, manifest)
    missing = writer.missing_shards()
    distributed.wait_for_all("missing shards are known")  # before one of them is written
    process = jax.process_index() % teacher.num_processes
    mine = [shard for shard in missing if shard % teacher.num_processes == process]
    asked = missing if teacher.spans_processes else mine
    total = sum(stop - start for start, stop in map(writer.shard_range, asked))
    with (
        ThreadPoolExecutor(max_workers=1) as encoder,
        _Progress(total, hidden=not distributed.is_process_zero()) as progress,
    ):
        for shard in asked:
            start, stop = writer.shard_range(shard)
            builder = writer.begin_shard(shard)
            waiting: deque[Future[None]] = deque()
            for index, answer in teacher.answers(prompts[start:stop]):
                progress.add(answer.num_tokens)
                if shard in mine:
                    kind = prompts[start + index].kind
                    waiting.append(encoder.submit(_put, builder, index, kind, answer))
                if len(waiting) > _MOST_WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
            if shard in mine:
                builder.finish()
    distributed.wait_for_all("shards are written")
    counts = writer.counts()
    if not any("kept" in of_kind for of_kind in counts.values()):
        raise ValueError(
            f"none of the teacher's {len(prompts)} answers is worth learning ({totals(counts)});"
            " raise generation.max_new_tokens or use a stronger teacher."
        )
    if distributed.is_process_zero():
        writer.finish()
    distributed.wait_for_all("cache is finished")
    return counts


def totals(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Counts of `capture` over all kinds, the most frequent first."""
    total: Counter[str] = Counter()
    for of_kind in counts.values():
        total.update(of_kind)
    return dict(total.most_common())


def _put(builder: ShardBuilder, index: int, kind: str, answer: CapturedAnswer) -> None:
    outcome = answer.outcome()
    if isinstance(outcome, str):
        builder.reject(kind, outcome)
    else:
        builder.add(index, outcome)


class _Progress:
    """A bar of prompts with the time left, and completion tokens per second beside it."""

    def __init__(self, total: int, *, hidden: bool):
        self._bar = tqdm(total=total, desc="teach", unit="prompt", mininterval=1.0, disable=hidden)
        self._tokens, self._since = 0, time.perf_counter()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, num_tokens: int) -> None:
        self._tokens += num_tokens
        if self._tokens:  # none where all answers are there already
            rate = self._tokens / (time.perf_counter() - self._since)
            self._bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
        self._bar.update()
