"""SentiBench for tensorflow-datasets, written and read without TensorFlow.

```
import tensorflow_datasets as tfds
import sentidistill_jax.datasets.sentibench  # registers the builder

test = tfds.data_source("sentibench/sst2", split="test")
```

See docs/data_formats.md#sentibench-in-tensorflow-datasets.
"""

from sentidistill_jax.datasets.sentibench.builder import Sentibench

__all__ = ["Sentibench"]
