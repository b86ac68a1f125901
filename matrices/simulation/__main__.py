"""`python -m matrices.simulation`: the command by itself."""

from matrices.simulation.command import main

main()
