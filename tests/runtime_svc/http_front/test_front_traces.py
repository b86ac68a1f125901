"""A request over HTTP goes on with its caller's trace, and what is no trace is no error."""

from __future__ import annotations

from pathlib import Path

import httpx

from matrices.evidence.traces import read_traces
from tests.limits import HANG_S
from tests.runtime_svc.http_front.front import asking, served

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def test_the_engine_s_stages_are_in_the_caller_s_trace(tmp_path: Path) -> None:
    headers = [
        {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"},
        {"traceparent": "00-zz", "tracestate": "=" * 5000},
        {},
    ]
    with served("--trace", str(tmp_path)) as front:
        url = f"{front.http}/v1/chat/completions"
        for given in headers:
            assert httpx.post(url, json=asking("hello"), headers=given, timeout=HANG_S).status_code == 200
        refused = httpx.post(url, json={"model": 7}, headers=headers[0], timeout=HANG_S)
        assert refused.status_code == 400
        assert httpx.get(f"{front.http}/health").status_code == 200
    traces = read_traces(tmp_path).by_id
    assert len(traces) == 3
    served_spans = [span for span in traces[TRACE].spans if span.kind == "server"]
    assert [(span.name, span.parent, span.failed) for span in served_spans] == [
        ("POST /chat/completions", PARENT, False),
        ("POST /chat/completions", PARENT, True),
    ]
    answered, turned_away = (span.attributes for span in served_spans)
    assert (answered["http.response.status_code"], turned_away["error.type"]) == (200, "invalid_type")
    for trace in traces.values():
        (engine,) = (span for span in trace.spans if span.name == "engine")
        assert engine.parent in {span.id for span in trace.spans if span.kind == "server"}
        stages = {span.name for span in trace.children[engine.id]}
        assert {"engine.queue", "engine.tokenize", "engine.prefill", "engine.decode"} <= stages
        assert engine.attributes["gen_ai.response.model"] == "treni-tiny"
