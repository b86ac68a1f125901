"""`python -m runtime_svc.bench.fronts`, which is `treni-route bench front`."""

from runtime_svc.threads import limit_blas_threads

limit_blas_threads()  # before NumPy is imported

from runtime_svc.bench.fronts.command import main  # noqa: E402

if __name__ == "__main__":
    main(prog_name="treni-route bench front")
