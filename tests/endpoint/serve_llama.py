"""Serves a GGUF file through llama.cpp: serve_llama.py MODEL PORT, until it is terminated.

Runs under any Python that has one of two packages: xllamacpp (llama.cpp's own server, prebuilt) or
llama-cpp-python[server] (a server in Python around llama.cpp, compiled on installation).
"""

import importlib.util
import runpy
import signal
import sys


def main(model: str, port: str) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        options = ["--model", model, "--model_alias", "smollm2", "--port", port]
        sys.argv = ["llama_cpp.server", *options, "--n_ctx", "2048", "--logits_all", "true"]
        runpy.run_module("llama_cpp.server", run_name="__main__")
        return
    import xllamacpp  # pyright: ignore[reportMissingImports]

    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # in the server's threads too
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = model, {"smollm2"}
    params.hostnames, params.port = ["127.0.0.1"], int(port)
    params.n_ctx, params.n_parallel = 4096, 2
    server = xllamacpp.Server(params)  # runs in threads for as long as it exists
    signal.sigwait(ending)
    del server


if __name__ == "__main__":
    main(*sys.argv[1:])
