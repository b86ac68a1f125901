"""Certificates for tests, as PEM files: of an authority made for the test, valid, expired, for this host or another."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
KEY = "a-key-for-tests-0123456789"
OTHER_KEY = "another-key-for-tests-9876543210"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: Path
    key: Path


class Authority:
    """An authority whose certificate is the file `ca`, and what it issues."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._made = trustme.CA()
        self._folder = folder
        self._name = name
        self._issued = 0
        self.ca = folder / f"{name}.pem"
        self._made.cert_pem.write_to_path(str(self.ca))

    def issue(self, *names: str, expired: bool = False) -> Pair:
        """A certificate for the names or addresses, and its key."""
        leaf = self._made.issue_cert(*names, not_after=PAST) if expired else self._made.issue_cert(*names)
        self._issued += 1
        stem = f"{self._name}-{self._issued}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(str(pair.certificate), append=True)
        pair.key.touch(0o600)
        leaf.private_key_pem.write_to_path(str(pair.key))
        return pair


def key_file(folder: Path, *keys: str, name: str = "keys", mode: int = 0o600) -> Path:
    """A file of keys, one a line, with that mode."""
    path = folder / name
    path.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    path.chmod(mode)
    return path
