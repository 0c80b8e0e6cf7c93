"""Small real things for tests: a tokenizer, a decoder, caches of random distributions."""

import contextlib
import dataclasses
import pathlib
import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from flax import nnx
from jax.sharding import Mesh
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sentidistill_jax.artifact import file_fingerprint
from sentidistill_jax.corpus.records import Prompt, read_records
from sentidistill_jax.data.teacher_cache import (
    CacheManifest,
    CacheReader,
    CacheRecord,
    CacheWriter,
    LabelTargets,
    SparseTargets,
    record_key,
)
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.decoder import Decoder
from sentidistill_jax.models.hf import load_decoder
from sentidistill_jax.models.load import LoadedModel
from sentidistill_jax.models.presets import PRESETS

TINY = dataclasses.replace(PRESETS["tiny"], num_layers=2)
KINDS = ("emotion", "polarity", "rewrite")


def byte_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """One token per byte, but for `words`, which are one token each together with their space."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in words:
        encoded = f"Ġ{word}"
        for end in range(1, len(encoded)):
            merge = encoded[:end], encoded[end]
            if merge not in merges:
                merges.append(merge)
                pieces.append(encoded[: end + 1])
    vocab = {piece: index for index, piece in enumerate([*pieces, "<pad>"])}
    backend = tokenizers.Tokenizer(BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", clean_up_tokenization_spaces=False
    )


def random_weights(config: ModelConfig = TINY, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Hugging Face name -> float32 weight."""
    rng = np.random.default_rng(seed)
    embed, mlp = config.embed_dim, config.mlp_dim
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, embed),
        "model.norm.weight": (embed,),
    }
    for layer in range(config.num_layers):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (embed,),
                "self_attn.q_proj": (heads, embed),
                "self_attn.k_proj": (kv_heads, embed),
                "self_attn.v_proj": (kv_heads, embed),
                "self_attn.o_proj": (embed, heads),
                "post_attention_layernorm": (embed,),
                "mlp.gate_proj": (mlp, embed),
                "mlp.up_proj": (mlp, embed),
                "mlp.down_proj": (embed, mlp),
            }.items()
        }
    weights = {
        name: (1.0 if len(shape) == 1 else 0.0)
        + rng.normal(0, 0.1 if len(shape) == 1 else shape[-1] ** -0.5, shape)
        for name, shape in shapes.items()
    }
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


def decoder_of(mesh: Mesh, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Decoder:
    """A sharded decoder with these weights, as if read from files."""
    tensors = {name: (lambda weight=weight: weight) for name, weight in weights.items()}
    return load_decoder(config, tensors, mesh)


def random_decoder(mesh: Mesh, config: ModelConfig = TINY, *, seed: int = 0) -> Decoder:
    """A sharded decoder whose parameters depend on the seed alone, not on the mesh."""
    return decoder_of(mesh, config, random_weights(config, seed=seed))


def random_model(mesh: Mesh, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> LoadedModel:
    """A tiny model with a tokenizer, as `load_model` would give it."""
    return LoadedModel(random_decoder(mesh, seed=seed), tokenizer, f"random-{seed}", "random")


def arrays_of(state: nnx.State) -> dict[str, np.ndarray]:
    """Dotted path -> array."""
    flat = nnx.to_flat_state(state)
    return {".".join(map(str, path)): np.asarray(variable.get_value()) for path, variable in flat}


def make_manifest(num_prompts: int, **changes: Any) -> CacheManifest:
    """Of a cache for a vocabulary as large as TINY's."""
    fields: dict[str, Any] = {
        "teacher_fingerprint": "teacher",
        "tokenizer_fingerprint": "tokenizer",
        "chat_template_fingerprint": "none",
        "corpus_fingerprint": "corpus",
        "vocab_size": TINY.vocab_size,
        "top_k": 4,
        "mode": "top_k",
        "temperatures": (1.0, 2.0),
        "codec": "fast",
        "num_prompts": num_prompts,
        "records_per_shard": 3,
        "config": {},
    }
    return CacheManifest(**fields | changes)


def targets_of(
    logits: np.ndarray, kept: np.ndarray, temperatures: Sequence[float]
) -> SparseTargets:
    """What a teacher with these logits [n, vocab] leaves in a cache that keeps ids [n, k]."""

    def log_softmax(scaled: np.ndarray) -> np.ndarray:
        return scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)

    tails = []
    for temperature in temperatures:
        rest = log_softmax(logits / temperature)
        np.put_along_axis(rest, kept, -np.inf, axis=-1)
        tails.append(np.logaddexp.reduce(rest, axis=-1))
    logprobs = np.take_along_axis(log_softmax(logits), kept, axis=-1)
    return SparseTargets(
        counts=np.full((len(kept),), kept.shape[1], np.int32),
        ids=kept.astype(np.int32).reshape(-1),
        logprobs=logprobs.astype(np.float32).reshape(-1),
        tail_logprobs=np.stack(tails, axis=-1).astype(np.float32),
    )


def random_record(
    rng: np.random.Generator, manifest: CacheManifest, *, prompt: int, completion: int, kind: str
) -> CacheRecord:
    """A sequence with random targets; the kind "polarity" has label targets at its first token."""
    tokens = rng.integers(1, manifest.vocab_size, prompt + completion, dtype=np.int32)
    logits = rng.normal(0, 2, (completion, manifest.vocab_size))
    kept = np.argsort(-logits, axis=-1)[:, : manifest.top_k]
    labels = None
    if kind == "polarity":
        ids = kept[0, :2].astype(np.int32)
        raw = logits[0] - np.logaddexp.reduce(logits[0])
        calibrated = np.log([0.7, 0.3]).astype(np.float32)
        labels = LabelTargets(0, ids, raw[ids].astype(np.float32), calibrated)
    return CacheRecord(
        key=record_key(manifest.teacher_fingerprint, tokens, tokens),
        prompt_id=f"{kind}-{tokens[0]}",
        kind=kind,
        tokens=tokens,
        completion_start=prompt,
        targets=targets_of(logits, kept, manifest.temperatures),
        labels=labels,
    )


def write_cache(
    directory: pathlib.Path, records: Sequence[CacheRecord], manifest: CacheManifest
) -> pathlib.Path:
    """A finished cache of these records."""
    writer = CacheWriter(directory, manifest)
    for shard in writer.missing_shards():
        writer.write_shard(shard, records[slice(*writer.shard_range(shard))])
    writer.finish()
    return directory


def random_cache(
    directory: pathlib.Path, lengths: Sequence[tuple[int, int]], **changes: Any
) -> pathlib.Path:
    """A cache of random records with the given (prompt, completion) lengths, kinds in turn."""
    manifest = make_manifest(len(lengths), **changes)
    rng = np.random.default_rng(0)
    records = [
        random_record(
            rng, manifest, prompt=prompt, completion=completion, kind=KINDS[index % len(KINDS)]
        )
        for index, (prompt, completion) in enumerate(lengths)
    ]
    return write_cache(directory, records, manifest)


def assert_answers_the_corpus(
    cache: CacheReader, prompts_file: pathlib.Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Every record is the answer to a prompt of the corpus, in the order of the corpus."""
    assert cache.manifest.corpus_fingerprint == file_fingerprint(prompts_file)
    prompts = {prompt.id: prompt for prompt in read_records(prompts_file, Prompt)}
    records = [cache[index] for index in range(len(cache))]
    kept = {record.prompt_id for record in records}
    assert [record.prompt_id for record in records] == [key for key in prompts if key in kept]
    for record in records:
        prompt = prompts[record.prompt_id]
        assert record.kind == prompt.kind
        assert tokenizer.decode(record.tokens[: record.completion_start]) == prompt.prompt
        completion = str(tokenizer.decode(record.tokens[record.completion_start :]))
        assert completion.endswith("\n") and completion.strip()
        if prompt.label_words:
            assert record.labels is not None
            np.testing.assert_allclose(np.exp(record.labels.logprobs).sum(), 1, atol=1e-5)
            word = prompt.label_words[int(record.labels.logprobs.argmax())]
            assert completion == f"{prompt.answer_prefix}{word}{prompt.answer_suffix}\n"


def assert_trees_close(got: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float):
    """Equal to `tolerance` of each array's largest entry."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(np.abs(value).max(initial=0), 1e-6)
        np.testing.assert_allclose(
            got[name], value, rtol=tolerance, atol=tolerance * scale, err_msg=name
        )


@contextlib.contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file may become longer than this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
