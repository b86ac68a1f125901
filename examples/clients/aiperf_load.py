"""aiperf against the runtime: a few streamed requests, two at a time.

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
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(sys.executable).with_name("aiperf")
        options = ["--model", name, "--url", url.removesuffix("/v1"), "--endpoint-type", "chat", "--streaming"]
        options += ["--tokenizer", tokenizer, "--isl", "32", "--osl", "16", "--ui", "none"]
        options += ["--request-count", str(REQUESTS), "--concurrency", "2", "--artifact-dir", scratch]
        subprocess.run([program, "profile", *options], stdout=sys.stderr, check=True)
        (found,) = Path(scratch).rglob("profile_export_aiperf.json")
        print(json.loads(found.read_text()))


main(*sys.argv[1:])
