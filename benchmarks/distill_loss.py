"""Memory, time and accuracy of the distillation loss and its gradients, four ways.

naive           log_softmax over all logits, then gathers: what one writes first
plain           `distill_loss`: a hand-written gradient, still all logits at once
rematerialized  chunks through jax.checkpoint: what automatic differentiation alone can do
fused           `fused_distill_loss`

Memory is `temp_size_in_bytes` of the compiled program and needs no run, so `--no-time` reports
large shapes within seconds. "Beyond" leaves out the head's gradient, which every way must make: the
chunked ways sum it up in temporary memory, the others write it straight to the output. Times are
the best of `--repeats`, the ways taken in turn. Gradient errors are the largest over hidden and
head of |difference| / |expected| (Frobenius), against naive in float32.
"""

import argparse
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sentidistill_jax.training.distill_loss import (
    DistillTargets,
    LossTerms,
    SparseTeacher,
    distill_loss,
)
from sentidistill_jax.training.fused_head import (
    default_chunk_rows,
    fused_distill_loss,
    join_rows,
    split_rows,
)

MIB = 2**20


def naive_distill_loss(hidden, head_weight, targets, weights):
    """Cross entropy and forward KL with the tail as an outcome, from whole-vocabulary logprobs."""
    logits = jnp.einsum(
        "re,ve->rv", hidden, head_weight.astype(hidden.dtype), preferred_element_type=jnp.float32
    )
    logprobs = jax.nn.log_softmax(logits)
    teacher = targets.teacher
    kept = jnp.take_along_axis(logprobs, teacher.top_k_ids, axis=-1)
    tail = jnp.log1p(-jnp.exp(jax.nn.logsumexp(kept, axis=-1)))
    forward_kl = jnp.sum(jnp.exp(teacher.top_k_logprobs) * (teacher.top_k_logprobs - kept), axis=-1)
    forward_kl += jnp.exp(teacher.tail_logprob) * (teacher.tail_logprob - tail)
    ce = -jnp.take_along_axis(logprobs, targets.tokens[:, None], axis=-1)[:, 0]
    return jnp.sum(weights.ce * ce + weights.divergence * forward_kl), None


def rematerialized_distill_loss(
    hidden, head_weight, targets, weights, *, chunk_rows: int, **options
):
    """`distill_loss` in chunks whose logits the backward pass computes once more.

    What automatic differentiation alone can do against the memory of the logits, and so the
    reference for `fused_head.fused_distill_loss`: four products a chunk instead of three, and the
    head's gradient sums up in its own dtype.

    The arguments are those of `distill_loss`, and most rows in a chunk.
    """

    @jax.checkpoint
    def chunk_loss(hidden, targets, weights):
        return distill_loss(hidden, head_weight, targets, weights, **options)

    losses_of_chunks, terms = jax.lax.map(
        lambda chunk: chunk_loss(*chunk), split_rows((hidden, targets, weights), chunk_rows)
    )
    return jnp.sum(losses_of_chunks), join_rows(terms, len(hidden))


def example(rows: int, vocab: int, embed: int, k: int):
    """Random hidden states, head, targets and weights, float32."""
    keys = jax.random.split(jax.random.key(0), 5)
    # Distinct ids without a [rows, vocab] draw: a random start and steps below vocab / k.
    steps = jax.random.randint(keys[0], (rows, k), 1, vocab // k + 1)
    top_k_ids = (jnp.cumsum(steps, axis=1) - 1).astype(jnp.int32)
    outcomes = jax.nn.log_softmax(2.0 * jax.random.normal(keys[1], (rows, k + 1)))
    return (
        jax.random.normal(keys[2], (rows, embed)),
        jax.random.normal(keys[3], (vocab, embed)) / embed**0.5,
        DistillTargets(
            jax.random.randint(keys[4], (rows,), 0, vocab),
            SparseTeacher(top_k_ids, outcomes[:, :-1], outcomes[:, -1]),
        ),
        LossTerms(jnp.full(rows, 0.5 / rows), jnp.full(rows, 0.5 / rows)),
    )


def compile_gradients(loss: Callable, args, chunk_rows: int | None = None):
    options = {} if chunk_rows is None else {"chunk_rows": chunk_rows}
    gradients = jax.grad(functools.partial(loss, **options), argnums=(0, 1), has_aux=True)
    return jax.jit(lambda *args: gradients(*args)[0]).lower(*args).compile()


def temp_bytes(program) -> int:
    return program.memory_analysis().temp_size_in_bytes


def best_seconds(programs: dict, args, repeats: int) -> dict[str, float]:
    best = {name: float("inf") for name in programs}
    for _ in range(1 + repeats):  # the first one warms up; a best of several does not see it
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*args))
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def relative_error(gradients, expected) -> float:
    return max(
        float(jnp.linalg.norm(got.astype(jnp.float32) - want) / jnp.linalg.norm(want))
        for got, want in zip(gradients, expected, strict=True)
    )


def accuracy(args, chunk_rows: int) -> tuple[float, float]:
    """Errors of the fused gradients in float32, and with bfloat16 hidden states and products."""
    hidden, *others = args

    def error(hidden) -> float:
        exact = hidden.astype(jnp.float32)
        fused = compile_gradients(fused_distill_loss, (hidden, *others), chunk_rows)
        oracle = compile_gradients(naive_distill_loss, (exact, *others))
        return relative_error(fused(hidden, *others), oracle(exact, *others))

    return error(hidden), error(hidden.astype(jnp.bfloat16))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--vocab", type=int, default=128_256)
    parser.add_argument("--embed", type=int, default=2048)
    parser.add_argument("--k", type=int, default=64, help="teacher entries of a position")
    parser.add_argument("--chunk-rows", type=int, help="by default default_chunk_rows()")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-time", action="store_true", help="memory only, nothing runs")
    parser.add_argument("--accuracy", action="store_true", help="gradient errors too; runs")
    options = parser.parse_args()

    head_bytes = options.vocab * options.embed * 4
    print(f"{time.strftime('%Y-%m-%d')}, jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print(
        f"vocab {options.vocab}, embed {options.embed}, k {options.k}, float32; "
        f"head gradient {head_bytes / MIB:.0f} MiB\n"
    )
    print("| rows | chunk | loss | temp MiB | beyond MiB | of naive | seconds | of naive |")
    print("|---|---|---|---|---|---|---|---|")
    errors = []
    for rows in options.rows:
        make = functools.partial(example, rows, options.vocab, options.embed, options.k)
        args = jax.eval_shape(make) if options.no_time else make()
        chunk_rows = options.chunk_rows or default_chunk_rows(rows, options.embed)
        chunked = {"rematerialized": rematerialized_distill_loss, "fused": fused_distill_loss}
        programs = {
            "naive": compile_gradients(naive_distill_loss, args),
            "plain": compile_gradients(distill_loss, args),
        } | {name: compile_gradients(loss, args, chunk_rows) for name, loss in chunked.items()}
        seconds = {} if options.no_time else best_seconds(programs, args, options.repeats)
        temp = {name: temp_bytes(program) for name, program in programs.items()}
        for name in programs:
            beyond = temp[name] - (head_bytes if name in chunked else 0)
            timing = (
                f"{seconds[name]:.2f} | {seconds[name] / seconds['naive']:.2f}" if seconds else "|"
            )
            print(
                f"| {rows} | {chunk_rows if name in chunked else rows} | {name} "
                f"| {temp[name] / MIB:.0f} | {beyond / MIB:.0f} | {beyond / temp['naive']:.1%} "
                f"| {timing} |",
                flush=True,
            )
        if options.accuracy:
            errors.append((rows, *accuracy(make(), chunk_rows)))
    for rows, float32, bfloat16 in errors:
        print(f"\n{rows} rows: gradient error {float32:.1e} in float32, {bfloat16:.1e} in bfloat16")


if __name__ == "__main__":
    main()
