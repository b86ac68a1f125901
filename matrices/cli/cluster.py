"""`treni-route cluster`: files for `ray up`."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import click
import jinja2

from matrices.cli import output
from matrices.topologies.ray_protocol import FIRST_PORT, PORT_VARIABLE, STATE_VARIABLE
from treni import entry
from treni.errors import TreniError, invalid_argument

VENV = "~/treni-route/venv"
SOURCE = "~/treni-route/source"
TLS = "~/treni-route/tls"
STATE = "~/treni-route/state"

PORTS = {
    "--node-manager-port": 6380,
    "--object-manager-port": 6381,
    "--dashboard-agent-grpc-port": 6382,
    "--dashboard-agent-listen-port": 6383,
    "--runtime-env-agent-port": 6384,
    "--metrics-export-port": 6385,
    "--min-worker-port": 11000,
    "--max-worker-port": 11999,
}
"""The ports of Ray's own processes on every host, so that a firewall can name them."""

_EXTRAS = {"local": "ray", "aws": "ray,cupy"}
"""What of our extras is installed on the hosts."""

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_EPILOG = """\b
Examples:
  treni-route cluster init --provider local --head-ip 10.0.0.1 --worker-ip 10.0.0.2 > cluster.yaml
  treni-route cluster init --provider aws --image ami-... --gpu-instance g6.xlarge > cluster.yaml
  ray up cluster.yaml"""


@entry.group()
def cluster() -> None:
    """Clusters of Ray for `treni-route matrix --topology ray` (docs/ray.md)."""


@cluster.command(epilog=_EPILOG)
@click.option("--provider", type=click.Choice(["local", "aws"]), required=True, help="Whose hosts they are.")
@click.option("--name", default="treni-route", show_default=True, help="What the cluster is called.")
@click.option("--head-ip", metavar="HOST", help="local: the host of controller, tools and proxies.")
@click.option(
    "--worker-ip", "worker_ips", metavar="HOST", multiple=True, help="local: the model's; repeatable."
)
@click.option("--ssh-user", help="Who logs in there; default: you, or ubuntu on aws.")
@click.option(
    "--ssh-key", metavar="FILE", help="The private key for it; default: what ssh, or Ray on aws, uses."
)
@click.option("--region", default="eu-central-1", show_default=True, help="aws: where.")
@click.option(
    "--image", help="aws: an image with Python 3.11 or later and, for cupy, an NVIDIA driver for CUDA 13."
)
@click.option(
    "--cpu-instance", default="c7i.2xlarge", show_default=True, help="aws: the type of the cpu_host."
)
@click.option("--gpu-instance", default="g6.xlarge", show_default=True, help="aws: the type of the gpu_host.")
@click.option(
    "--source",
    metavar="FOLDER|REQUIREMENT",
    help="What is installed on each host: a checkout, or a requirement of pip; default: what runs here.",
)
@click.option(
    "--installed",
    metavar="DIR",
    help="A virtual environment that has treni-route[ray] on each host already: nothing is installed.",
)
@click.option(
    "--state",
    default=STATE,
    show_default=True,
    help="The folder on each host for evidence, which has to outlive the cluster.",
)
@click.option(
    "--port",
    type=entry.WholeRange(1024, 60000),
    default=FIRST_PORT,
    show_default=True,
    help="The first of the ports that roles listen on.",
)
@click.option(
    "--token",
    metavar="FILE",
    default="~/.ray/auth_token",
    show_default=True,
    help="The cluster's token here, which `ray get-auth-token --generate` makes.",
)
@click.option(
    "--tls",
    metavar="FOLDER",
    help="A folder here with cert.pem, key.pem and ca.pem, for TLS between Ray's own processes; default: none.",
)
def init(provider: str, **asked: Any) -> None:
    """Print a commented file for `ray up`: a gpu_host for the model, a cpu_host for everything else."""
    output.say(cluster_file(provider, **asked))


def cluster_file(
    provider: str,
    *,
    source: str | None,
    installed: str | None,
    state: str,
    port: int,
    tls: str | None,
    **asked: Any,
) -> str:
    """The file's text. Raises INVALID_ARGUMENT where something is missing, or is no host."""
    _check(provider, asked)
    if source is not None and installed is not None:
        raise _wrong("one of --source and --installed", "both", "leave one out")
    mounted, package = (None, None) if installed is not None else _package(source, _EXTRAS[provider])
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_worker_niceness": "0",  # else 15: whatever else runs there would come first
        STATE_VARIABLE: state,
        PORT_VARIABLE: str(port),
    }
    if tls is not None:
        environment |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": f"{TLS}/cert.pem",
            "RAY_TLS_SERVER_KEY": f"{TLS}/key.pem",
            "RAY_TLS_CA_CERT": f"{TLS}/ca.pem",
        }
    template = _templates().get_template(f"{provider}.yaml.jinja")
    return template.render(
        **asked | {"ssh_user": asked["ssh_user"] or _user(provider)},
        mounted=mounted,
        package=package,
        tls=tls,
        environment=[f"{name}={_in_shell(value)}" for name, value in environment.items()],
        ports=[f"{option}={number}" for option, number in PORTS.items()],
        shell_line=f'export RAY_AUTH_MODE=token PATH={_in_shell(installed or VENV)}/bin:"$PATH"  # treni-route',
    )


def _check(provider: str, asked: dict[str, Any]) -> None:
    if provider == "aws":
        if asked["head_ip"] is not None or asked["worker_ips"]:
            raise _wrong(
                "no --head-ip and no --worker-ip on aws, which makes the hosts", "some", "leave them out"
            )
        if asked["image"] is None:
            raise _wrong(
                "--image for aws", "none: Ray's own default has too old a Python", "name one of the region"
            )
        return
    if asked["head_ip"] is None or not asked["worker_ips"]:
        raise _wrong("--head-ip and a --worker-ip for the provider local", "not both", "name your hosts")
    hosts = (asked["head_ip"], *asked["worker_ips"])
    for host in hosts:
        if _HOST.fullmatch(host) is None:
            raise _wrong("hosts by name or address", repr(host), "correct it")
        if hosts.count(host) > 1:
            raise _wrong("a host of its own for each", f"{host} twice", "a host joins a cluster once")


def _package(source: str | None, extras: str) -> tuple[str | None, str]:
    """The folder that is copied to the hosts, None for none, and what pip installs there."""
    if source is None:
        here = Path(__file__).resolve().parents[2]
        if not (here / "pyproject.toml").is_file():
            return None, shlex.quote(f"treni-route[{extras}]=={importlib.metadata.version('treni-route')}")
        source = str(here)
    if Path(source).expanduser().is_dir():
        return f"{Path(source).expanduser().resolve()}/", f"{_in_shell(SOURCE)}'[{extras}]'"
    return None, shlex.quote(source)


def _user(provider: str) -> str:
    return "ubuntu" if provider == "aws" else getpass.getuser()


def _in_shell(value: str) -> str:
    """The value as a word of a shell there, where `~/` is the home of whoever logs in."""
    if value.startswith("~/"):
        return f'"$HOME"/{shlex.quote(value[2:])}'
    return shlex.quote(value)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(resources.files("deploy"))),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is YAML, quoted by the filter
    )
    # What JSON quotes, YAML reads alike.
    environment.filters |= {"yaml": json.dumps, "shell": shlex.quote}
    return environment


def _wrong(expected: str, got: str, todo: str) -> TreniError:
    return invalid_argument("cluster_invalid", expected=expected, got=got, todo=todo)
