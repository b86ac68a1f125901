"""`python -m matrices`: the same as `treni-route`."""

from matrices.cli import main

main()
