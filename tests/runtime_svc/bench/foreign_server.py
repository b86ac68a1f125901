"""A small server that speaks the OpenAI protocol, as somebody else's would: right, or wrong in a chosen way.

It has no model: its text is as many words as were asked for, and its counts follow a rule that a test can know.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS_PER_WORD = 3
TOKENS_AROUND = 7

TEXTS = {"line separator": "a\u2028b", "next line": "a\u0085b", "form feed": "a\fb\x1cc"}
"""What Unicode counts as the end of a line, and server-sent events do not."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ForeignServer

    def do_GET(self) -> None:
        if self.server.fault == "loading":
            self._answer(503, {"error": "loading"})
        elif self.server.fault == "models":
            self._answer(200, {"models": []})
        else:
            self._answer(200, {"object": "list", "data": [{"id": "foreign-1"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        if self.server.fault == "refuses":
            self._answer(500, {"error": {"message": "out of\nmemory"}})
            return
        if self.server.fault == "hangs":
            self.server.release.wait()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in self._lines(request):
            self._chunk(line)
        if self.server.fault != "breaks":
            self._chunk("")
        self.close_connection = True

    def _lines(self, request: dict[str, Any]) -> Iterator[str]:
        fault, tokens = self.server.fault, request["max_tokens"]
        prompt = TOKENS_AROUND + TOKENS_PER_WORD * len(request["messages"][0]["content"].split())
        yield ": a comment\n\n"
        yield _event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        if fault == "no json":
            yield "data: {oops\n\n"
        if fault == "no object":
            yield "data: 7\n\n"
        if fault == "odd choices":
            yield _event({"choices": [None]})
        if fault == "named error":
            yield f"event: error\n{_event({'message': 'the queue is full'})}"
        if fault == "error event":
            yield _event({"error": {"message": "the engine died"}})
        for number in range(0 if fault == "no text" else tokens):
            if fault in ("ends early", "breaks") and number == 1:
                return
            if fault == "dies" and number == 1:  # it counted what it made so far, and says so in its own way
                yield _event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 1}})
                yield 'data: {"object":"error","message":"out of memory","code":500}\n\ndata: [DONE]\n\n'
                return
            text = TEXTS.get(fault, f"w{number} ")
            if fault == "silent first" and number == 0:
                text = ""
            yield _event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})
        if fault == "cut by [DONE]":
            yield "data: [DONE]\n\n"
            return
        reason = "abort" if fault == "aborts" else "length"
        yield _event({"choices": [{"delta": {}, "finish_reason": reason}]})
        if fault != "no usage":
            yield _event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}})
        yield "data: [DONE]\n\n"

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunk(self, text: str) -> None:
        with contextlib.suppress(ConnectionError):
            self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class ForeignServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int = 0, fault: str = "") -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.fault = fault
        self.requests: list[dict[str, Any]] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


@contextlib.contextmanager
def running(fault: str = "") -> Iterator[ForeignServer]:
    server = ForeignServer(fault=fault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    ForeignServer(int(sys.argv[1])).serve_forever()
