import dataclasses
import json
import socket

from runtime_svc.bench.machine import machine, parse_gpu


def test_a_card_is_read_from_what_the_driver_answers() -> None:
    card = parse_gpu("NVIDIA H200, 580.95.05, 143771, 4, 1980, 3201, 700.00, Enabled")
    assert (card.name, card.driver, card.memory_mib, card.memory_used_mib) == (
        "NVIDIA H200",
        "580.95.05",
        143771,
        4,
    )
    assert (card.max_sm_clock_mhz, card.max_memory_clock_mhz, card.power_limit_w) == (1980, 3201, 700.0)
    assert parse_gpu("A, 1, 24564, 0, [N/A], [N/A], [N/A], Disabled").power_limit_w == 0.0
    assert card.persistence_mode


def test_a_machine_is_described_without_its_name() -> None:
    found = machine()
    assert found.cores >= 1
    assert found.packages["numpy"]
    assert socket.gethostname() not in json.dumps(dataclasses.asdict(found))
