"""One machine with a GPU as two hosts: `python -m deploy.gpu_split` joins two network namespaces and runs the matrix.

The agents run in one namespace, controller, tools, proxies and harness in the other, as in the published split-host
matrix. The namespaces have no names: each is there for as long as the process that made it, and every process dies
with this one, so that nothing is left behind however it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from chaos.toxiproxy_build import ensure_server
from matrices.cli.termination import TERMINATED, Terminated, unless_terminated
from matrices.topologies.processes import Child, start_child
from runtime_svc.backends import BACKENDS
from treni import entry, processes
from treni.errors import Code, TreniError, invalid_argument
from treni.keys import new_key_file
from treni.storage import new_folder, writing

GPU, CPU = "gpu", "cpu"
"""What the hosts are called, in the file of hosts and in the report."""

ADDRESSES = {GPU: "10.77.0.1", CPU: "10.77.0.2"}
"""Where each host is on the link. Nobody else can reach it, so that any number of these can run at once."""

LINK = "v0"
_COLUMNS = {"received_bytes": 0, "received_packets": 1, "sent_bytes": 8, "sent_packets": 9}
IP_TIMEOUT_S = 60.0
"""The limit for an `ip` that hangs."""

# Both ask the kernel to kill them with their parent (`treni.processes` ends them in order before that), in the few
# lines that need no import of ours: the first makes a namespace and stays, the second enters one and becomes a program.
_HOLDER = """
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
refused = os.strerror(ctypes.get_errno()) if libc.unshare(0x40000000) != 0 else ""
print(json.dumps({"address": f"/proc/{os.getpid()}/ns/net", "refused": refused}), flush=True)
signal.pause()
"""
_ENTER = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
if libc.setns(os.open(sys.argv[2], os.O_RDONLY), 0x40000000) != 0:
    sys.exit(f"the namespace {sys.argv[2]} cannot be entered: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A network namespace with an end of the link, held by a process of its own."""

    name: str
    holder: Child

    @property
    def namespace(self) -> str:
        """Where the namespace can be opened while its holder lives."""
        return self.holder.address

    def python(self, *command: str) -> list[str]:
        """What follows `python` to run the command there."""
        return ["-I", "-S", "-c", _ENTER, str(os.getpid()), self.namespace, *command]

    def packets(self) -> dict[str, int]:
        """How many packets and bytes its end of the link has sent and received so far (proc_net_dev(5)).

        Nothing where the kernel does not tell.
        """
        try:
            text = Path(f"/proc/{self.holder.pid}/net/dev").read_text(encoding="ascii")
        except OSError:
            return {}
        told = [line.partition(":")[2].split() for line in text.splitlines() if f"{LINK}:" in line.split()]
        return {what: int(fields[column]) for fields in told for what, column in _COLUMNS.items()}


def refuse_impossible(backend: str) -> None:
    """Raises FAILED_PRECONDITION where this machine cannot be split, with everything that it lacks; makes nothing."""
    lacking = []
    if sys.platform != "linux":
        lacking.append("Linux")
    elif os.geteuid() != 0:
        lacking.append("root")
    if shutil.which("ip") is None:
        lacking.append("the program ip (Debian package iproute2) on PATH")
    if lacking:
        raise _refused(f"{', '.join(lacking)} to be here, to make network namespaces", "it is not")
    BACKENDS[backend].refuse_absent()


@asynccontextmanager
async def joined_hosts(folder: Path) -> AsyncIterator[dict[str, Host]]:
    """Both hosts, joined by a veth pair, until the block is left. Raises FAILED_PRECONDITION where the kernel won't."""
    async with AsyncExitStack() as stack:
        hosts = {name: await _host(name, folder, stack) for name in ADDRESSES}
        here, there = hosts.values()
        # A path and no process id, so that a kernel needs no more than namespaces by descriptor.
        pair = ("type", "veth", "peer", "name", LINK, "netns", there.namespace)
        await _ip(here, "link", "add", LINK, *pair)
        for host in (here, there):
            await _ip(host, "address", "add", f"{ADDRESSES[host.name]}/24", "dev", LINK)
            await _ip(host, "link", "set", "lo", "up")
            await _ip(host, "link", "set", LINK, "up")
        yield hosts


async def _host(name: str, folder: Path, stack: AsyncExitStack) -> Host:
    arguments = ["-I", "-S", "-c", _HOLDER, str(os.getpid())]
    holder = await start_child(f"the host {name}", arguments, log_path=folder / f"host-{name}.log")
    stack.push_async_callback(holder.stop)
    if holder.ready["refused"]:
        raise _refused("the kernel to make a network namespace", str(holder.ready["refused"]))
    return Host(name=name, holder=holder)


async def _ip(host: Host, *arguments: str) -> None:
    command = [sys.executable, *host.python("ip", *arguments)]
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=IP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"ip {' '.join(arguments)} to end", f"nothing for {IP_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise _refused(f"ip {' '.join(arguments)} to work on the host {host.name}", done.stderr.strip())


def _refused(expected: str, got: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "split_impossible",
        expected=expected,
        got=got,
        todo="run it as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN, on Linux with iproute2",
    )


async def run(folder: Path, *, backend: str, model_dir: Path | None, campaign: Sequence[str]) -> int:
    """Runs `treni-route matrix CAMPAIGN` across the link, everything it leaves in `folder`; its exit status."""
    await asyncio.to_thread(
        ensure_server
    )  # before anything is made: to build it can take a minute, or not be possible
    async with AsyncExitStack() as stack:
        # Not in the folder, which is kept and shown.
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="treni-key-"))
        key = new_key_file(Path(scratch, "key"))
        hosts = await stack.enter_async_context(joined_hosts(folder))
        engine = ["--backend", backend, *([] if model_dir is None else ["--model", str(model_dir)])]
        services = [
            # Two, so that the A/A cell measures what one process differs from another; the first one compiles.
            await _serve(hosts[GPU], "agent", "agent", folder, key, stack, engine),
            await _serve(hosts[GPU], "agent", "agent-b", folder, key, stack, engine),
            await _serve(hosts[CPU], "controller", "controller", folder, key, stack),
            await _serve(hosts[CPU], "tools", "tools", folder, key, stack),
            f'[[door]]\nkey_file = "{key}"\n',
        ]
        file = folder / "hosts.toml"
        with writing(file):
            file.write_text("\n".join(services), encoding="utf-8")
        before = {name: host.packets() for name, host in hosts.items()}
        status = await _matrix(hosts[CPU], [*campaign, "--topology", str(file), "--backend", backend], folder)
        crossed = {
            name: {key: value - before[name][key] for key, value in host.packets().items()}
            for name, host in hosts.items()
        }
        with writing(folder / "link.json"):
            (folder / "link.json").write_text(json.dumps(crossed, indent=2) + "\n", encoding="utf-8")
    entry.note(
        f"packets from {CPU} to {GPU}: {crossed[CPU].get('sent_packets', 'not counted by this kernel')}"
    )
    return status


async def _serve(
    host: Host,
    role: str,
    name: str,
    folder: Path,
    key: Path,
    stack: AsyncExitStack,
    more: Sequence[str] = (),
) -> str:
    """Starts a role on the host; its entry in the file of hosts. No port is chosen before it is there."""
    command = [sys.executable, "-m", "matrices", "serve", role, "--testbed", "--host", ADDRESSES[host.name]]
    state = ["--state", str(folder / "state" / name), "--key-file", str(key)]
    child = await start_child(name, host.python(*command, *state, *more), log_path=folder / f"{name}.log")
    stack.push_async_callback(child.stop)
    entry.note(f"{name} serves on the host {host.name} at {child.address}")
    return f'[[service]]\nrole = "{role}"\nhost = "{host.name}"\naddress = "{child.address}"\n'


async def _matrix(host: Host, arguments: Sequence[str], folder: Path) -> int:
    command = host.python(sys.executable, "-m", "matrices", "matrix", *arguments, "--out", str(folder))
    # A Ctrl-C at the terminal is ours to handle: what it runs has its own time to end.
    process = await asyncio.create_subprocess_exec(sys.executable, *command, start_new_session=True)
    try:
        return await process.wait()
    finally:
        await processes.stop(process)


@entry.command(
    epilog="Exit status: that of the matrix; 1 an error, such as a machine that cannot be split; 2 usage."
)
@click.argument("profiles", default="p00..p05")
@click.argument("campaign", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--backend",
    type=click.Choice(list(BACKENDS)),
    default="cupy",
    show_default=True,
    help="The agents' backend.",
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="A Hugging Face directory or a GGUF file; default: the bundled treni-tiny.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results/gpu-split"),
    show_default=True,
    help="The folder for the campaign, the file of hosts and the logs; made anew each time.",
)
def main(profiles: str, campaign: tuple[str, ...], backend: str, model_dir: Path | None, out: Path) -> None:
    """Make two hosts of this machine, joined by a link, and run the matrix of PROFILES across it.

    CAMPAIGN are further options of `treni-route matrix`, after --, such as: p00..p05 -- --runs 3. Needs Linux, root and
    iproute2; --backend numpy makes the same run without a GPU. The interpreter that runs this runs everything.
    """
    if given := [one for one in campaign if one.partition("=")[0] in ("--topology", "--out", "--backend")]:
        raise invalid_argument(
            "option_not_here", expected=f"no {given[0]} after --", got=given[0], todo="leave it out"
        )
    refuse_impossible(backend)
    folder = new_folder(out.parent, out.name)
    status = 0

    async def work() -> None:
        nonlocal status
        status = await run(folder, backend=backend, model_dir=model_dir, campaign=[profiles, *campaign])

    try:
        asyncio.run(unless_terminated(work()))
    except Terminated:
        status = TERMINATED
    sys.exit(status)


if __name__ == "__main__":
    main(prog_name="python -m deploy.gpu_split")
