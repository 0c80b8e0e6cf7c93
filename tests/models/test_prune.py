"""Students made of some of a model's layers."""

import dataclasses

import numpy as np
import pytest
from flax import nnx
from goldens import decoder_of

from sentidistill_jax.models.hf import hf_tensors
from sentidistill_jax.models.prune import keep_layers
from sentidistill_jax.sharding import make_mesh


@pytest.fixture(scope="module")
def model():
    return decoder_of("llama_untied", make_mesh({"fsdp": 2, "tensor": 4}), remat="dots")


@pytest.mark.parametrize("layers", [(0, 2), (2, 0), (1, 1, 1, 1), [0, 1, 2]])
def test_kept_layers_are_those_of_the_model_and_the_rest_is_unchanged(model, layers):
    student = keep_layers(model, layers)
    assert student.config == dataclasses.replace(model.config, num_layers=len(layers))
    assert (student.dtype, student.remat) == (model.dtype, "dots")
    before, after = dict(hf_tensors(model)), dict(hf_tensors(student))
    assert len(after) == 3 + 9 * len(layers)
    for name, value in after.items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            name = f"model.layers.{layers[int(layer)]}.{rest}"
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_student_has_the_placements_of_its_model(model):
    def placements(decoder):
        flat = nnx.to_flat_state(nnx.state(decoder))
        return {path: variable.get_value().sharding for path, variable in flat}

    assert placements(keep_layers(model, (0, 2))) == placements(model)


@pytest.mark.parametrize("layers", [(), (3,), (-1, 0), (0, 1, 2, 3)])
def test_layers_that_do_not_exist_are_refused(model, layers):
    with pytest.raises(ValueError, match=r"student\.layers=.* must name layers from 0 to 2"):
        keep_layers(model, layers)


def test_what_is_not_a_layer_is_shared_with_the_model(model):
    student = keep_layers(model, (0,))
    assert student.embedding.get_value() is model.embedding.get_value()
    assert student.lm_head.get_value() is model.lm_head.get_value()
