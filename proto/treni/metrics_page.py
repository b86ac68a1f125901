"""The page of a process's metrics over HTTP, the option that asks for it, and the list of who can be scraped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

import click

from treni import entry, metrics
from treni.serving import free_port, not_bound
from treni.storage import write_whole

metrics_option = click.option(
    "--metrics-port",
    type=entry.WholeRange(0, 65535),
    metavar="PORT",
    help="Serve Prometheus metrics on this port of the loopback interface, 0 for a free one; default: off.",
)


class MetricsServer:
    """The page, at `address`, until it is stopped."""

    def __init__(self, server: WSGIServer, thread: Thread, address: str) -> None:
        self.address = address
        self._server = server
        self._thread = thread

    @property
    def ready(self) -> dict[str, str]:
        """What the process's line of JSON says of it."""
        return {"metrics": self.address}

    def stop(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(page: metrics.Page, *, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Serves the page over HTTP, on a thread of its own; port 0 picks a free one.

    A scraper that takes OpenMetrics gets exemplars too. Raises UNAVAILABLE when the address cannot be bound.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr=host, registry=page.registry)
    except OSError as error:
        raise not_bound(host, port, str(error)) from error
    return MetricsServer(server, thread, f"http://{host}:{server.server_port}/metrics")


@contextmanager
def serving_metrics(port: int | None) -> Iterator[dict[str, str]]:
    """Counts and serves this process's metrics while the block runs, with those of its machine; not at all for None.

    Gives what the process's line of JSON says of that.
    """
    if port is None:
        yield {}
        return
    from treni.metrics_host import add_machine

    page = metrics.switch_on()
    add_machine(page)
    server = serve(page, port=port)
    try:
        yield server.ready
    finally:
        server.stop()


class Targets:
    """A file for Prometheus's `file_sd_configs`: which processes of ours are to be scraped now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at: dict[str, str] = {}

    def add(self, role: str, url: str) -> Callable[[], None]:
        """Has the page at the URL scraped with that role as label, until what this gives is called."""
        self._at[url] = role
        self._write()

        def remove() -> None:
            self._at.pop(url, None)
            self._write()

        return remove

    @property
    def urls(self) -> tuple[str, ...]:
        """The pages that are listed now."""
        return tuple(self._at)

    def _write(self) -> None:
        groups = [
            {"targets": [url.split("/")[2]], "labels": {"role": role}} for url, role in self._at.items()
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, (json.dumps(groups, indent=2) + "\n").encode())


_targets: Targets | None = None


def list_targets(path: Path) -> Targets:
    """Has the services that this process starts from now on listed in that file; the list."""
    global _targets
    _targets = Targets(path)
    return _targets


def list_nowhere() -> None:
    """Has the services that this process starts from now on listed in no file."""
    global _targets
    _targets = None


def listed(role: str, ready: Mapping[str, Any]) -> Callable[[], None]:
    """Lists a service that said where its metrics are, where somebody wants that; what takes it off the list."""
    if _targets is None or "metrics" not in ready:
        return lambda: None
    return _targets.add(role, str(ready["metrics"]))


def asked() -> list[str]:
    """The options of a service that this process starts: metrics of its own, where this one has some."""
    # No 0: one that dies and is started again is to be found where it was.
    return ["--metrics-port", str(free_port())] if metrics.on() else []
