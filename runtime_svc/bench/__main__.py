"""`python -m runtime_svc.bench`, which is `treni-route bench runtime`."""

from __future__ import annotations

import sys

from runtime_svc.bench.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
