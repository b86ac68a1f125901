"""`python -m runtime_svc.bench`, which is `treni-route bench runtime`."""

from runtime_svc.bench.command import main

if __name__ == "__main__":
    main(prog_name="treni-route bench runtime")
