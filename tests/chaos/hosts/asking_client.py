"""A client of the echo server on another host, driven by lines on stdin, each answered by one on stdout.

`ask`: sends a line and waits for its echo; the seconds that it took. `tell`: sends a line. `peek`: whether anything
came within half a second. `hear`: waits for what was told.
"""

from __future__ import annotations

import select
import socket
import sys
import time


def main(address: str) -> None:
    """Asks until stdin ends."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as server, server.makefile("rb") as answers:
        for line in sys.stdin:
            asked_s = time.monotonic()
            match line.strip():
                case "ask":
                    server.sendall(b"ask\n")
                    answers.readline()
                    said = f"{time.monotonic() - asked_s}"
                case "tell":
                    server.sendall(b"told\n")
                    said = "sent"
                case "peek":
                    said = "something" if select.select([server], [], [], 0.5)[0] else "nothing"
                case _:
                    said = answers.readline().decode().strip()
            print(said, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
