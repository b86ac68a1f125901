from __future__ import annotations

from pathlib import Path

import pytest

from treni.channels import KEEPALIVE_INTERVAL_S, KEEPALIVE_TIMEOUT_S, SILENCE_LIMIT_S
from treni.errors import MAX_FIELD_BYTES, TreniError
from treni.limits import ALL, ANSWER_BYTES, HEADER_BYTES, Limit, table

PAGE = Path("docs/limits.md").read_text(encoding="utf-8")


def test_the_page_has_the_limits_as_they_are() -> None:
    _, _, rest = PAGE.partition("<!-- limits -->\n")
    assert rest.partition("<!-- end of limits -->")[0] == table()
    assert f"at most {ANSWER_BYTES:,} bytes" in PAGE
    assert f"at most {HEADER_BYTES:,} bytes" in PAGE
    assert f"cut to {MAX_FIELD_BYTES} bytes" in PAGE
    for seconds in (SILENCE_LIMIT_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_TIMEOUT_S):
        assert f"{seconds:g} s" in PAGE


@pytest.mark.parametrize("limit", ALL, ids=lambda limit: f"{limit.kind}-{limit.most}")
def test_a_limit_refuses_one_more_and_says_so(limit: Limit) -> None:
    limit.check(limit.most)
    with pytest.raises(TreniError) as caught:
        limit.check(limit.most + 1)
    error = caught.value
    assert (error.kind, error.code, error.definite) == (limit.kind, limit.code, True)
    assert str(limit.most) in error.expected
    assert str(limit.most + 1) in error.got
    assert error.todo
