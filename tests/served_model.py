"""A real HTTP server that speaks OpenAI's protocol for a toy model, and fails on demand.

The model is a function of the token ids that it reads, so what a client says of it can be compared
with the function. The server stands in for others where failures are wanted; llama.cpp itself is
served in endpoint/test_llama_cpp.py.
"""

import collections
import contextlib
import functools
import http.server
import json
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

ANSWERS = (" a warm and witty film\n", " it is far too long\n", " dull\n")


class ToyModel:
    """After the last colon of a text it writes one of its answers; elsewhere it is random.

    Args:
      tokenizer: Its tokenizer.
      answers: What it may write.
      end: Text of the token that ends its turn; "": it never ends it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        answers: Sequence[str] = ANSWERS,
        end: str = "",
    ):
        self.tokenizer, self.answers, self.end = tokenizer, answers, end
        texts = [str(tokenizer.decode([number])) for number in range(len(tokenizer))]
        self._no_text = np.array(["\ufffd" in text for text in texts])  # parts of characters

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]

    def answer(self, prompt: str) -> str:
        return self.answers[zlib.crc32(prompt.encode()) % len(self.answers)]

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """Of the next token, float64 [vocab]."""
        text = str(self.tokenizer.decode(list(ids)))
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        logits = rng.normal(0, 1.5, len(self.tokenizer))
        logits[self._no_text] -= 20
        before, colon, said = text.rpartition(":")
        answer = self.answer(before + colon)
        if colon and answer.startswith(said) and said != answer:
            logits[self.encode(answer)[len(self.encode(said))]] += 12
        return logits - np.logaddexp.reduce(logits)


class Server(http.server.ThreadingHTTPServer):
    """Attributes decide how it answers; `faults` are spent one per request, before anything else.

    Faults: a status code; `garbage` (no JSON), `page` (HTML), `empty` (JSON of another kind),
    `cut` (a body shorter than announced), `cut_chunks` (a chunked body without its end),
    `unfinished` (no finish_reason).
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: ToyModel, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.model = model
        self.names = ["toy"]
        self.style = "lists"  # or content, or vllm
        self.lists_logprobs = True
        self.max_logprobs = 20
        self.faults: collections.deque[int | str] = collections.deque()
        self.fault_text = "no"
        self.asked: list[dict[str, Any]] = []  # bodies of all requests
        self.keys: set[str] = set()  # that came with them
        self.pause = 0.0
        self.most_at_a_time = 0
        self._at_a_time = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @contextlib.contextmanager
    def counted(self, body: dict[str, Any], key: str) -> Iterator[int | str | None]:
        """Notes a request, and gives the fault that it meets."""
        with self._lock:
            self.asked.append(body)
            self.keys.add(key)
            self._at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self._at_a_time)
            fault = self.faults.popleft() if self.faults else None
        time.sleep(self.pause)
        yield fault
        with self._lock:
            self._at_a_time -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


@contextlib.contextmanager
def serving(model: ToyModel, port: int = 0) -> Iterator[Server]:
    server = Server(model, port)
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_GET(self) -> None:
        data = [{"id": name, "object": "model"} for name in self.server.names]
        self._send(200, json.dumps({"object": "list", "data": data}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers.get("authorization", "").removeprefix("Bearer ")
        with self.server.counted(body, key) as fault:
            if isinstance(fault, int):
                error = {"error": {"message": self.server.fault_text.format(key=key)}}
                self._send(fault, json.dumps(error).encode())
            elif body.get("logprobs", 0) > self.server.max_logprobs:
                self._send(400, b'{"error": {"message": "logprobs must be at most 20"}}')
            elif "prompt_logprobs" in body and self.server.style == "content":
                self._send(422, b'{"error": {"message": "unknown field prompt_logprobs"}}')
            else:
                self._answer(body, fault)

    def _answer(self, body: dict[str, Any], fault: str | None) -> None:
        answer = _complete(self.server, body)
        if fault == "unfinished":
            answer["choices"][0]["finish_reason"] = None
        data = json.dumps(answer).encode()
        if fault == "garbage":
            self._send(200, b'{"choices": [{"te')
        elif fault == "page":
            self._send(200, b"<html>Welcome</html>", content_type="text/html")
        elif fault == "empty":
            self._send(200, b'{"choices": []}')
        elif fault == "cut":
            self._send(200, data[: len(data) // 2], length=len(data))
        elif fault == "cut_chunks":
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            half = data[: len(data) // 2]
            self.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
            self.close_connection = True
        else:
            self._send(200, data)

    def _send(
        self,
        status: int,
        data: bytes,
        *,
        length: int | None = None,
        content_type: str = "application/json",
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data) if length is None else length))
        if status == 429:
            self.send_header("retry-after", "0.05")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = length is not None


def _complete(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    model, chat = server.model, "messages" in body
    prompt = body["messages"][0]["content"] if chat else body["prompt"]
    read = model.encode(prompt)
    ids: list[int] = []
    rows: list[np.ndarray] = []
    text, finish_reason = "", "length"
    while len(ids) < body["max_tokens"]:
        rows.append(model.logprobs([*read, *ids]))
        ids.append(int(rows[-1].argmax()))
        text = str(model.tokenizer.decode(ids))
        ends = [*body.get("stop", ()), *([model.end] if model.end else ())]
        stops = [stop for stop in ends if stop in text]
        if stops:
            text, finish_reason = text[: text.find(stops[0])], "stop"
            if server.style != "vllm":  # vLLM lists the token that ended the answer
                ids, rows = ids[:-1], rows[:-1]
            break
    message = (
        {"message": {"role": "assistant", "content": text.strip()}} if chat else {"text": text}
    )
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, **message}
    wanted = body.get("top_logprobs") if chat else body.get("logprobs")
    if server.lists_logprobs and wanted:
        tops = [(one, row, np.argsort(-row)[:wanted]) for one, row in zip(ids, rows, strict=True)]
        style = "content" if chat else server.style
        choice["logprobs"] = _content(model, tops) if style == "content" else _lists(model, tops)
    if server.style == "vllm" and body.get("prompt_logprobs"):
        choice["prompt_logprobs"] = _of_prompt(model, read, body["prompt_logprobs"])
    usage = {"prompt_tokens": len(read), "completion_tokens": len(ids)}
    return {"model": f"{body['model']}-v1", "choices": [choice], "usage": usage}


def _text(model: ToyModel, token: int) -> str:
    return str(model.tokenizer.decode([token]))


def _lists(model: ToyModel, tops: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    return {
        "tokens": [_text(model, one) for one, _, _ in tops],
        "token_logprobs": [row[one] for one, row, _ in tops],
        "top_logprobs": [{_text(model, i): row[i] for i in top} for _, row, top in tops],
    }


def _content(model: ToyModel, tops: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    def item(token: int, row: np.ndarray) -> dict[str, Any]:
        text = _text(model, token)
        whole = "\ufffd" not in text  # else a lone byte, and one whose id is not its value
        return {
            "token": text,
            "bytes": list(text.encode()) if whole else None,
            "logprob": row[token],
        }

    return {
        "content": [
            {**item(one, row), "top_logprobs": [item(int(i), row) for i in top]}
            for one, row, top in tops
        ]
    }


def _of_prompt(model: ToyModel, read: Sequence[int], count: int) -> list[Any]:
    found: list[Any] = [None]
    for end in range(1, len(read)):
        row = model.logprobs(read[:end])
        ids = [read[end], *(int(i) for i in np.argsort(-row)[:count])]
        found.append({str(i): {"logprob": row[i], "rank": 1} for i in ids})
    return found
