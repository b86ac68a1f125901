"""Which of several alike services a request goes to: a pure function of its index."""

from __future__ import annotations


def chosen(index: int, count: int) -> int:
    """The number of the service, from 0, that the request at `index` goes to among `count` of them.

    The sum of the index's digits in base `count`, modulo `count` (the Thue-Morse sequence for two): of `count` requests
    in a row, begun at a multiple of it, each service gets one, and no period of the tasks falls in with that of the
    services, so that none gets the same tasks ever again.
    """
    if count == 1:
        return 0
    digits = 0
    while index > 0:
        index, digit = divmod(index, count)
        digits += digit
    return digits % count
