"""llama.cpp's own server around a GGUF file, for tests that are marked `server`."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def server_python() -> str:
    """An interpreter that has a server's package; see CONTRIBUTING.md."""
    found = os.environ.get("LLAMA_SERVER_PYTHON", str(ROOT / ".venv-server" / "bin" / "python"))
    if not pathlib.Path(found).is_file():
        pytest.skip(
            f"no llama.cpp server at {found}; run `make server`, or set LLAMA_SERVER_PYTHON"
        )
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def llama_server(python, model, port, log):
    """A running server; killed rather than asked to stop, as the world does."""
    script = str(ROOT / "tests" / "endpoint" / "serve_llama.py")
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [python, script, str(model), str(port)], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5):
                    break
            assert process.poll() is None, pathlib.Path(log).read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()
