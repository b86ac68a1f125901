"""How fast the runtime is on this machine, beside the machine's own bounds and beside other runtimes.

Start at `session.py`. Every contender runs in a process of its own and is measured over the same few verbs;
nothing here needs the gRPC service or the harness, so `python -m runtime_svc.bench` runs wherever the engine does.
"""
