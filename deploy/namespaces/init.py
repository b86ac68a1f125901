"""`python -m deploy.namespaces.init`: the first process of a host, as whose end the kernel ends all others there.

It covers what a machine of its own would have for itself (home, /tmp, /run, /dev/shm, /etc/hosts), makes the rest of
the disk read-only, says so, and lives until its standard input ends: that is a pipe which only the maker of the hosts
holds, so that no way in which the maker ends leaves a process, a mount or a file behind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HOME = "/run/home"
"""The home folder on a host, of its root by the host's own passwd too, which is what a login goes by."""

COVERED = ("/tmp", "/run", "/dev/shm")
"""The folders that are a host's own, empty when it begins."""


def main() -> None:
    """Makes the host, whose settings are the first line of the standard input, and stays until that ends."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    try:
        _prepare(settings["hosts"], settings["visible"])
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        print(json.dumps({"refused": said.strip()}), flush=True)
        sys.exit(1)
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print(json.dumps({"refused": None}), flush=True)
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
            _reap()
        if 0 in ready and not os.read(0, 512):
            os._exit(0)


def _prepare(hosts: str, visible: Sequence[str]) -> None:
    """The host's own files: `hosts` is the text of /etc/hosts, `visible` folders that stay to be seen as they are."""
    hidden = [folder for folder in visible if any(_lies_in(folder, cover) for cover in COVERED)]
    # By an open file a folder can be named that is covered meanwhile.
    opened = {folder: os.open(folder, os.O_PATH | os.O_DIRECTORY) for folder in hidden}
    os.chdir("/")
    for folder in COVERED:
        _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", folder)
    for folder, descriptor in opened.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount("-c", "--bind", f"/proc/self/fd/{descriptor}", folder, descriptor=descriptor)
        _mount("-o", "remount,bind,ro", folder)
        os.close(descriptor)
    for folder in (HOME, "/run/lock", "/run/sshd"):
        Path(folder).mkdir(mode=0o700)
    for path, text in (("/etc/hosts", hosts), ("/etc/resolv.conf", ""), ("/etc/passwd", _passwd())):
        _cover(Path(path), text)
    _mount("-o", "remount,bind,ro", "/")


def _lies_in(folder: str, cover: str) -> bool:
    return Path(folder).is_relative_to(cover)


def _passwd() -> str:
    """The users of the machine, those with root's rights at home in `HOME`."""
    return "".join(f"{line}\n" for line in _at_home(Path("/etc/passwd").read_text(encoding="utf-8")))


def _at_home(users: str) -> Iterator[str]:
    for line in users.splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == "0":
            fields[5] = HOME
        yield ":".join(fields)


def _cover(path: Path, text: str) -> None:
    """Makes the file at `path` read `text` on this host alone."""
    target = Path(os.path.realpath(path))
    if any(_lies_in(str(target), cover) for cover in COVERED):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return
    mine = Path("/run/etc", path.name)
    mine.parent.mkdir(exist_ok=True)
    mine.write_text(text, encoding="utf-8")
    _mount("--bind", str(mine), str(target))


def _mount(*arguments: str, descriptor: int | None = None) -> None:
    """Runs `mount`, which inherits the descriptor."""
    subprocess.run(
        ["mount", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=() if descriptor is None else (descriptor,),
    )


def _reap() -> None:
    """Takes note of the ends of all processes whose own parents are gone."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
