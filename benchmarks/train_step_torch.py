"""The PyTorch side of train_step.py, run by an interpreter that has torch and transformers.

Reads one JSON object a line, {"what", "dtype", "steps"}, and answers each with the seconds that so
many steps took. Parameters are float32; bfloat16 is autocast, as our compute dtype is.
"""

import json
import pathlib
import sys
import time

import torch  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM


class Peer:
    """One model and its optimizer."""

    def __init__(self, directory: str, tokens: list[list[int]], scored: int):
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self._model.config.use_cache = False
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-5, fused=True)
        self._tokens = torch.tensor(tokens)
        self._labels = self._tokens.clone()
        self._labels[:, : self._tokens.shape[1] - scored] = -100  # which the loss ignores

    def _loss(self, dtype: str):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            return self._model(input_ids=self._tokens, labels=self._labels).loss

    def forward(self, dtype: str) -> None:
        """Loss without gradients."""
        with torch.no_grad():
            self._loss(dtype)

    def train(self, dtype: str) -> None:
        """One update."""
        self._optimizer.zero_grad(set_to_none=True)
        self._loss(dtype).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()


def main(directory: str, tokens_file: str, scored: int, threads: int) -> None:
    torch.set_num_threads(threads)
    peer = Peer(directory, json.loads(pathlib.Path(tokens_file).read_text()), scored)
    for line in sys.stdin:
        request = json.loads(line)
        step = {"forward": peer.forward, "train": peer.train}[request["what"]]
        start = time.perf_counter()
        for _ in range(request["steps"]):
            step(request["dtype"])
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
