"""An MCP server at a URL by hand, whose answers to a tool's call are as bad as that tool's name says."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAMES = (
    "echo",
    "hang",
    "status",
    "html",
    "flood",
    "flood_sse",
    "bomb",
    "cut",
    "other_id",
    "accepted",
    "elsewhere",
)
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self._send(405, b"")

    def do_DELETE(self) -> None:
        self._send(405, b"")

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if number is None:
            self._send(202, b"")
        elif method == "initialize":
            self._answer(
                number,
                {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "hostile", "version": "1"},
                },
            )
        elif method == "tools/list":
            notes = {"readOnlyHint": True}
            self._answer(
                number, {"tools": [{"name": n, "inputSchema": TEXT, "annotations": notes} for n in NAMES]}
            )
        elif method == "tools/call":
            with suppress(BrokenPipeError, ConnectionResetError):
                self._call(number, params["name"])
        else:
            self._say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "unknown"}})

    def _call(self, number: Any, name: str) -> None:
        good = {"content": [{"type": "text", "text": "hi"}]}
        match name:
            case "hang":
                time.sleep(3600)
            case "status":
                self._send(503, b"busy")
            case "html":
                self._send(200, b"<html>", "text/html")
            case "flood":
                self._stream("application/json", b"x" * 65536, 4096)
            case "flood_sse":
                self._stream("text/event-stream", b": x" * 20000 + b"\n", 4096)
            case "bomb":
                data = gzip.compress(b" " * 50_000_000)
                self._send(200, data, "application/json", encoding="gzip")
            case "cut":
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "1000")
                self.end_headers()
                self.wfile.write(b'{"jsonrpc"')
                self.close_connection = True
            case "other_id":
                self._answer(987654, good)
            case "accepted":
                self._send(202, b"")
            case "elsewhere":
                self.send_response(307)
                self.send_header("location", "http://192.0.2.1/mcp")
                self.send_header("content-length", "0")
                self.end_headers()
            case _:
                self._answer(number, good)

    def _answer(self, number: Any, result: Any) -> None:
        self._say({"jsonrpc": "2.0", "id": number, "result": result})

    def _say(self, message: Any) -> None:
        self._send(200, json.dumps(message).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str = "text/plain", encoding: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if encoding:
            self.send_header("content-encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, kind: str, part: bytes, times: int) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(times):
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        return


@contextmanager
def hostile_url() -> Iterator[str]:
    """The URL of such a server while the block runs."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        finally:
            server.shutdown()
            thread.join()
