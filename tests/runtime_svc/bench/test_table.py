from runtime_svc.bench.record import Floors, Run
from runtime_svc.bench.table import (
    bound_ms,
    markdown,
    ms_per_token,
    not_measured,
    tables,
    terminal,
    tokens_per_s,
)
from tests.runtime_svc.bench.reports import report


def rows_of(run: Run, start: str) -> dict[str, dict[str, str]]:
    (table,) = [t for t in tables(run) if t.title.startswith(start)]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_decode_stands_beside_its_bound() -> None:
    (run,) = report().runs
    rows = rows_of(run, "Decode at batch 1")
    bound = bound_ms(run, 1, 256)
    assert bound is not None
    # 596 M parameters of two bytes and 255.5 positions of KV over the median rate.
    assert round(bound, 4) == round(1e3 * (2 * 596_049_920 + 255.5 * 28 * 2 * 8 * 128 * 2) / 4.3e12, 4)
    assert rows["treni"]["ms/token"] == "0.500"
    assert rows["treni"]["of the bound"] == f"{bound / 0.5:.1%}"
    assert rows["treni"]["x ours"] == "1.00"
    assert rows["http://127.0.0.1:1/v1"]["x ours"] == "4.00"
    assert rows["http://127.0.0.1:1/v1"]["repeats x tokens"] == "1 x 200"
    assert rows["bound: copying its bytes"]["ms/token"] == f"{bound:.3f}"


def test_what_was_not_measured_is_a_dash_and_has_a_reason() -> None:
    (run,) = report().runs
    ttft = rows_of(run, "Time to the first token")
    assert ttft["treni"]["128 tokens, ms"] == "2.00 [1.20, 2.80]"
    assert ttft["transformers-compiled"]["512 tokens, ms"] == "-"
    assert "http://127.0.0.1:1/v1 (counted 127)" in ttft
    throughput = rows_of(run, "Decode throughput")
    assert throughput["treni"]["8 over 1"] == "4.00"
    assert (
        throughput["http://127.0.0.1:1/v1"]["batch 8"]
        == throughput["http://127.0.0.1:1/v1"]["8 over 1"]
        == "-"
    )
    assert not_measured(run) == [
        "transformers-compiled: partial: cut at its limit of 90 s, while decoding at batch 1",
        "vllm: absent: No module named 'vllm'",
    ]
    assert all("vllm" not in row for table in tables(run) for row in table.rows)


def test_rates() -> None:
    (run,) = report().runs
    one, eight = run.contenders[0].decode
    assert ms_per_token(one) == [0.5, 0.5]
    assert tokens_per_s(eight) == [8000.0]


def test_cold_starts_by_stage() -> None:
    (run,) = report().runs
    assert rows_of(run, "Cold start")["treni"]["cold total s"] == "0.530"
    assert rows_of(run, "Our cold start")["treni"]["import"] == "200.0"


def test_numpys_bound_is_its_products_and_only_for_one_sequence() -> None:
    (run,) = report().runs
    run.floors = Floors(product_s=[0.0001, 0.0002, 0.0003], read_s=[0.0002])
    assert (bound_ms(run, 1, 9), bound_ms(run, 8, 9)) == (0.2, None)
    assert rows_of(run, "Decode at batch 1")["NumPy reading the weights"]["of the bound"] == "100.0%"
    run.floors = Floors()
    assert rows_of(run, "Decode at batch 1")["treni"]["of the bound"] == "-"


def test_both_renderings_hold_every_figure() -> None:
    (run,) = report().runs
    for text in (markdown(report()), terminal(report())):
        for table in tables(run):
            for row in table.rows:
                assert all(cell in text for cell in row[1:])
        assert "NVIDIA H200, driver 580.1" in text
        assert "4,300.0 GB/s" in text
        assert "No module named 'vllm'" in text
