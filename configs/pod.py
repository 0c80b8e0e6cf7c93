"""A published student on a pod: Llama-3.2-1B in bfloat16, rows of 2048 tokens, one per chip.

sentidistill plan --config=configs/pod.py --topology=v5e:16x16 needs no weights. To train, give the
directory that holds them: --config.student.source=DIR, and the same tokenizer's teacher:
--config.teacher.source=DIR.

The plan expects 2.2 of 15.75 GiB a chip and 134 ms a step on that topology, 91 to 175 by how much
overlaps (docs/pods.md); it was never run on one. `smoke` takes the embedded teacher, whose weights
are here, with the same mesh and rematerialization.
"""

from typing import Any

from configs import _arguments, base


def get_config(arguments: str = ""):
    """KnowDist at the size of a v5e-256; `stage`, `name` and the rest as in base.py."""
    config: Any = base.get_config()
    config.mesh.data = 1
    config.mesh.fsdp = -1  # state and gradients split over all chips of a slice
    config.teacher.source = "llama-3.1-70b"
    config.teacher.dtype = "bfloat16"
    config.teacher.per_process = False  # no host holds it alone
    config.teacher.tokens_per_batch = 256 * 2048
    config.student.source = "llama-3.2-1b"
    config.student.layers = ()
    config.student.dtype = "bfloat16"
    config.student.remat = "full"
    config.cache.top_k = 64
    config.optimizer.learning_rate = 2e-5
    config.data.global_batch_size = 256
    config.data.seq_length = 2048
    config.data.scored_length = 512
    if _arguments.SMOKE in _arguments.parse(arguments):
        config.teacher.source = config.student.source = "smollm2-135m-instruct"
        _arguments.shrink(config)
    return config
