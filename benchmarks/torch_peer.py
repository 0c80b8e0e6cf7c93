"""The other side of a comparison: PyTorch and transformers in a process of their own.

Neither is a dependency of this project, so the first comparison makes a virtual environment with
the pinned versions below, in `.cache/torch_peer`.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".cache" / "torch_peer"
PACKAGES = ("torch==2.13.0", "transformers==5.23.0")

Ask = Callable[..., dict[str, Any]]


@contextlib.contextmanager
def torch_peer(script: str, *arguments: Any) -> Iterator[Ask]:
    """Starts `script`, which lies beside this file and answers JSON objects line by line.

    Args:
      script: File name.
      *arguments: Of its command line.

    Yields:
      A function from the fields of a question to the answer.

    Raises:
      RuntimeError: Of the function, if the process has ended.
    """
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (ENVIRONMENT / ".ready").touch()
    process = subprocess.Popen(
        [python, ROOT / "benchmarks" / script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"},
        text=True,
    )
    questions, answers = process.stdin, process.stdout
    assert questions is not None and answers is not None

    def ask(**question: Any) -> dict[str, Any]:
        print(json.dumps(question), file=questions, flush=True)
        line = answers.readline()
        if not line:
            raise RuntimeError(f"{script} ended with exit code {process.wait()}; see above.")
        return json.loads(line)

    yield ask
    questions.close()
    process.wait()
