"""Files of hosts, and what they are put together from."""

from __future__ import annotations

from pathlib import Path

AGENT = '[[service]]\nrole = "agent"\nhost = "one"\naddress = "127.0.0.2:7001"\n'
CONTROLLER = '[[service]]\nrole = "controller"\nhost = "two"\naddress = "127.0.0.3:7001"\n'
TOOLS = '[[service]]\nrole = "tools"\nhost = "three"\naddress = "127.0.0.4:7001"\n'
WHOLE = AGENT + CONTROLLER + TOOLS
HOST = '[[host]]\nname = "three"\naddress = "127.0.0.9:7001"\n'
HOSTS = "".join(
    HOST.replace("three", name).replace("9:7001", f"9:{port}")
    for name, port in (("one", 1), ("two", 2), ("three", 3))
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
