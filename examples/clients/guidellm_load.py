"""guidellm against the runtime: a few streamed requests, two at a time.

treni-route serve runtime --model runtime_svc/checkpoints/treni-tiny --http 8000
python examples/clients/guidellm_load.py http://127.0.0.1:8000/v1 treni-tiny runtime_svc/checkpoints/treni-tiny
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

REQUESTS = 8
# It counts on servers that ignore an answer's end and read both limits; this one refuses what it does not do.
BACKEND = {"extra_body": {}, "remove_from_body": ["max_tokens", "ignore_eos", "stop"]}


def main(url: str, name: str, tokenizer: str) -> None:
    """Sends the requests and prints what they took."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        program = Path(sys.executable).with_name("guidellm")
        data = {"prompt_tokens": 32, "output_tokens": 16}
        options = ["--target", url.removesuffix("/v1"), "--model", name, "--processor", tokenizer]
        options += ["--data", json.dumps(data), "--rate-type", "concurrent", "--rate", "2"]
        options += ["--max-requests", str(REQUESTS), "--backend-args", json.dumps(BACKEND)]
        options += ["--output-path", str(report), "--disable-progress"]
        subprocess.run([program, "benchmark", "run", *options], stdout=sys.stderr, check=True)
        print(json.loads(report.read_text()))


main(*sys.argv[1:])
