"""Load by guidellm on the runtime: a few streamed requests, two at a time.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/guidellm_load.py http://127.0.0.1:8000/v1 treni-tiny runtime_svc/checkpoints/treni-tiny
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REQUESTS = 8
# An answer ends where the model ends it, so fewer tokens than these may come.
DATA = {"prompt_tokens": 32, "output_tokens": 16}
BACKEND = {"remove_from_body": ["ignore_eos"]}
ROUTE = {"GUIDELLM__PREFERRED_ROUTE": "chat_completions"}


def main(url: str, name: str, tokenizer: str) -> None:
    """Sends the requests and prints what they took."""
    program = Path(sys.executable).with_name("guidellm")
    options = ["--target", url.removesuffix("/v1"), "--model", name, "--processor", tokenizer]
    options += ["--data", json.dumps(DATA), "--backend-args", json.dumps(BACKEND), "--disable-progress"]
    options += ["--rate-type", "concurrent", "--rate", "2", "--max-requests", str(REQUESTS)]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [program, "benchmark", "run", *options, "--output-path", report]
        if subprocess.run(command, stdout=sys.stderr, env=os.environ | ROUTE).returncode:
            sys.exit("guidellm ended with an error")
        found = json.loads(report.read_text())["benchmarks"][0]
    answered, metrics = found["run_stats"]["requests_made"]["successful"], found["metrics"]
    first_ms = metrics["time_to_first_token_ms"]["successful"]["median"]
    a_second = metrics["requests_per_second"]["successful"]["mean"]
    print(
        f"{answered} of {REQUESTS} requests, {a_second:.1f} a second, the first token after {first_ms:.1f} ms"
    )
    if answered != REQUESTS:
        sys.exit("not all were answered")


main(*sys.argv[1:])
