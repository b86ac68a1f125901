"""`python -m matrices`: the same as `treni-route`."""

from matrices.cli.main import main

main(prog_name="treni-route")
