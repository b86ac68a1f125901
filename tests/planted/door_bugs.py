"""Planted bugs of doors: each lets somebody in, or gives a key away."""

from __future__ import annotations

from tests.planted.bug import Bug, Tests

_DOORS = "tests/proto/test_doors.py::"
_KEYS = "tests/proto/test_keys.py::"

DOORS = (
    Bug(
        name="door-open-to-all-of-grpcs-own",
        file="proto/treni/doors.py",
        old="method == OPEN_METHOD or",
        new='method.startswith("/grpc.") or',
        breaks="whoever reaches the server may watch it and hold its calls without a key",
        seen_by=Tests(nodes=(_DOORS + "test_behind_a_key_health_is_told_and_nothing_else",)),
    ),
    Bug(
        name="door-loopback-by-one-address",
        file="proto/treni/doors.py",
        old="bool(addresses) and all(",
        new="bool(addresses) and any(",
        breaks="a name that stands for loopback and for another address is served on both without a key",
        seen_by=Tests(nodes=(_DOORS + "test_which_hosts_only_this_machine_reaches",)),
    ),
    Bug(
        name="door-of-mapped-addresses",
        file="proto/treni/doors.py",
        old="(address if mapped is None else mapped).is_loopback",
        new="mapped is not None or address.is_loopback",
        breaks="every IPv4 address written as IPv6 counts as loopback",
        seen_by=Tests(nodes=(_DOORS + "test_which_hosts_only_this_machine_reaches",)),
    ),
    Bug(
        name="door-keys-but-the-last",
        file="proto/treni/keys.py",
        old="found |= hmac.compare_digest(given, digest)",
        new="found = hmac.compare_digest(given, digest)",
        breaks="of several keys only the last lets in: one can't be exchanged",
        seen_by=Tests(nodes=(_KEYS + "test_each_key_of_a_file_lets_in_and_the_first_is_shown",)),
    ),
    Bug(
        name="door-keys-of-everybody",
        file="proto/treni/keys.py",
        old="_OTHERS = stat.S_IRWXO | stat.S_IWGRP",
        new="_OTHERS = stat.S_IWOTH | stat.S_IWGRP",
        breaks="a file of keys that every user of the machine reads is taken",
        seen_by=Tests(nodes=(_KEYS + "test_a_file_that_others_may_read_or_write_is_refused",)),
    ),
    Bug(
        name="door-of-the-proxy",
        file="proto/treni/channels.py",
        old="one = _keyring.pass_to(service) if given is None else given",
        new="one = _keyring.pass_to(address) if given is None else given",
        breaks="what is shown through a proxy is what is for the proxy's host, and not for whom it leads to",
        seen_by=Tests(
            nodes=(
                "tests/chaos/test_lane_doors.py::"
                "test_a_lane_leads_to_who_it_says_and_shows_the_key_there_alone",
            )
        ),
    ),
)
