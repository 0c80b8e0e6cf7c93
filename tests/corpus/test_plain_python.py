import subprocess
import sys


def test_corpus_needs_no_accelerator_library():
    program = (
        "import sys, sentidistill_jax.corpus.build;"
        "print(*({'jax', 'flax', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
