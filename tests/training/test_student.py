"""Students cut from a model: what is not needed changes nothing, and what is cut trains on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import arrays_of, byte_tokenizer, random_cache, random_model
from tiny_run import fingerprints, tiny_config, train, write_model

from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.data.vocabulary_map import token_counts
from sentidistill_jax.export import export
from sentidistill_jax.models.flops import num_parameters
from sentidistill_jax.models.load import load_model, tokenizer_fingerprint
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.training.student import Cut, cut_student, label_words, student_config

WIDTHS = {"embed": 32, "mlp": 48, "kv_heads": 1}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def model(mesh):
    return random_model(mesh, byte_tokenizer(["positive", "many"]))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache") / "cache"
    return open_cache(random_cache(directory, [(9, 4), (3, 2), (5, 5)], vocab_size=257))


def logits(model, tokens):
    tokens = jnp.asarray(tokens)[None]
    hidden, _ = model.decoder(tokens, jnp.arange(tokens.shape[1])[None])
    return np.asarray(model.decoder.logits(hidden)[0])


def zeroed(model, axes):
    """The model with random channels of the given axes switched off: those that WIDTHS lacks."""
    rng = np.random.default_rng(3)
    config = model.decoder.config
    embed = rng.choice(config.embed_dim, config.embed_dim - WIDTHS["embed"], replace=False)
    graphdef, state = nnx.split(model.decoder)

    def off(path, variable):
        value = variable.get_value()
        if "embed" in axes and variable.get_metadata()["axes"][-1] == "embed":
            value = value.at[..., embed].set(0)  # nothing writes to the channel
        if "mlp" in axes and path[-1] == "down_proj":
            for layer in range(config.num_layers):
                dead = rng.choice(config.mlp_dim, config.mlp_dim - WIDTHS["mlp"], replace=False)
                value = value.at[layer, dead].set(0)
        if "kv_heads" in axes and path[-1] == "o_proj":
            value = value.at[0, 0:2].set(0).at[1, 2:4].set(0)  # another group in each layer
        return variable.replace(value)

    flat = [(path, off(path, variable)) for path, variable in nnx.to_flat_state(state)]
    return dataclasses.replace(model, decoder=nnx.merge(graphdef, nnx.from_flat_state(flat)))


@pytest.mark.parametrize("axes", [("embed",), ("mlp",), ("kv_heads",), tuple(WIDTHS)])
def test_cutting_what_is_zero_leaves_the_logits(model, reader, mesh, axes):
    teacher = zeroed(model, axes)
    cut = Cut(widths={axis: WIDTHS[axis] for axis in axes})
    student = cut_student(teacher, cut, [reader], mesh)
    assert num_parameters(student.decoder.config) < num_parameters(model.decoder.config)
    for index in range(len(reader)):
        tokens = reader[index].tokens
        expected = logits(teacher, tokens)
        np.testing.assert_allclose(logits(student, tokens), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected - logits(model, tokens)).max() > 0.1  # the zeros were not idle before


def test_a_student_cut_to_full_widths_is_the_model_bit_for_bit(model, reader, mesh):
    config = model.decoder.config
    full = {"embed": config.embed_dim, "mlp": config.mlp_dim, "kv_heads": config.num_kv_heads}
    student = cut_student(model, Cut(num_layers=2, widths=full), [reader], mesh)
    assert student.decoder.config == config
    before, after = arrays_of(nnx.state(model.decoder)), arrays_of(nnx.state(student.decoder))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_layers_by_importance_are_measured_on_the_cache(model, reader, mesh):
    decoder = nnx.merge(*nnx.split(jax.tree.map(jnp.array, model.decoder)))
    for variable in (decoder.layers.attention.o_proj, decoder.layers.mlp.down_proj):
        variable.set_value(variable.get_value().at[0].set(0))  # the first layer does nothing
    teacher = dataclasses.replace(model, decoder=decoder)
    cut = Cut(num_layers=1, layer_choice="importance")
    assert cut.needs_texts
    student = cut_student(teacher, cut, [reader], mesh)
    tokens = reader[0].tokens
    np.testing.assert_allclose(logits(student, tokens), logits(teacher, tokens), atol=1e-5)


def test_a_trimmed_student_gives_its_tokens_the_same_logits(model, reader, mesh):
    student = cut_student(model, Cut(vocabulary="corpus"), [reader], mesh)
    trimmed = student.trimmed
    assert trimmed is not None
    assert student.cache_tokenizer == tokenizer_fingerprint(model.tokenizer)
    occurrences, _ = token_counts([reader], model.decoder.config.vocab_size)
    assert (trimmed.new_ids[occurrences > 0] >= 0).all()
    assert len(student.tokenizer) == student.decoder.config.vocab_size < 300
    tokens = reader[0].tokens
    expected = logits(model, tokens)[:, trimmed.kept_ids]
    np.testing.assert_allclose(logits(student, trimmed.new_ids[tokens]), expected, atol=1e-5)
    again = dataclasses.replace(student, source="once")
    with pytest.raises(ValueError, match="the vocabulary of once is trimmed already"):
        cut_student(again, Cut(vocabulary="corpus"), [reader], mesh)


def test_label_words_keep_their_own_tokens(model, reader, mesh):
    """Or labels could begin with the same token."""
    assert {"positive", "non-irony", "sadness"} <= set(label_words())
    student = cut_student(model, Cut(vocabulary="corpus"), [reader], mesh)
    assert len(student.tokenizer(" positive")["input_ids"]) == 1
    assert len(student.tokenizer(" many")["input_ids"]) > 1  # no label, and in no sequence


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (0,), "num_layers": 1}, "student.layers=.* and student.num_layers=1 both say"),
        ({"vocabulary": "small"}, "student.vocabulary='small' must be 'full' or 'corpus'"),
        ({"vocabulary_size": 9}, "student.vocabulary_size=9 needs student.vocabulary='corpus'"),
        ({"measured_sequences": 0}, "student.measured_sequences=0 must be at least 1"),
        ({"widths": {"embed": 49}}, "student.slice.embed=49 must be 1 to 48"),
        ({"widths": {"kv_heads": -1}}, "student.slice.kv_heads=-1 must be 1 to 2"),
        ({"num_layers": -1}, "student.num_layers=-1 must be 1 to 2"),
    ],
)
def test_what_cannot_be_cut_is_refused(model, reader, mesh, changes, message):
    with pytest.raises(ValueError, match=message):
        cut_student(model, Cut(**changes), [reader], mesh)


@pytest.mark.parametrize(
    "cut",
    [
        Cut(num_layers=1, layer_choice="even", widths=WIDTHS),
        Cut(layers=(1,), widths={"kv_heads": 1}, vocabulary="corpus", vocabulary_size=267),
    ],
)
def test_the_shape_of_a_student_is_known_without_its_weights(model, reader, mesh, cut):
    student = cut_student(model, cut, [reader], mesh)
    assert student_config(model.decoder.config, cut) == student.decoder.config


@pytest.mark.usefixtures("one_device")
def test_a_student_cut_in_every_way_trains_is_exported_and_trains_on(tmp_path, mesh):
    directory = write_model(tmp_path / "teacher")
    caches = [
        random_cache(tmp_path / name, [(4, 4)] * sequences, **fingerprints(directory))
        for name, sequences in (("first", 4), ("other", 9))
    ]
    config = tiny_config(directory)
    config.student.update(num_layers=1, layer_choice="importance", vocabulary="corpus")
    config.student.slice.update(**WIDTHS)
    config.data.epochs = 1
    watched = []

    def watch(step, model):
        watched.append(model.trimmed)
        return {"eval/step": float(step)}

    trained = train(config, caches[:1], tmp_path / "one", interval=1, on_interval=watch)
    assert trained.trimmed is not None and watched == [trained.trimmed] * len(watched) != []
    export(trained, tmp_path / "student")
    loaded = load_model(str(tmp_path / "student"), mesh)
    tokens = loaded.tokenizer("A quiet treasure.")["input_ids"]
    np.testing.assert_array_equal(logits(loaded, tokens), logits(trained, tokens))

    config.student.update(source=str(tmp_path / "student"), num_layers=0, vocabulary="full")
    config.student.slice.update(embed=0, mlp=0, kv_heads=0)
    further = train(config, caches[:1], tmp_path / "two")
    assert further.decoder.config == loaded.decoder.config
    assert further.trimmed is not None
    with pytest.raises(ValueError, match="tokens that the student's trimmed vocabulary lacks"):
        train(config, caches[1:], tmp_path / "three")
    assert not (tmp_path / "three").exists()
