"""Load by aiperf on the runtime: a few streamed requests, two at a time.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/aiperf_load.py http://127.0.0.1:8000/v1 treni-tiny runtime_svc/checkpoints/treni-tiny
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

REQUESTS = 8


def main(url: str, name: str, tokenizer: str) -> None:
    """Sends the requests and prints what they took."""
    program = Path(sys.executable).with_name("aiperf")
    options = ["--model", name, "--url", url.removesuffix("/v1"), "--endpoint-type", "chat", "--streaming"]
    # An answer ends where the model ends it, so fewer tokens than --osl may come.
    options += ["--tokenizer", tokenizer, "--isl", "32", "--osl", "16", "--ui", "none"]
    options += ["--request-count", str(REQUESTS), "--concurrency", "2"]
    with tempfile.TemporaryDirectory() as scratch:
        command = [program, "profile", *options, "--artifact-dir", scratch]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            sys.exit("aiperf ended with an error")
        (report,) = Path(scratch).rglob("profile_export_aiperf.json")
        found = json.loads(report.read_text())
    answered, a_second = int(found["request_count"]["avg"]), found["request_throughput"]["avg"]
    first_ms = found["time_to_first_token"]["p50"]
    print(
        f"{answered} of {REQUESTS} requests, {a_second:.1f} a second, the first token after {first_ms:.1f} ms"
    )
    if answered != REQUESTS:
        sys.exit("not all were answered")


main(*sys.argv[1:])
