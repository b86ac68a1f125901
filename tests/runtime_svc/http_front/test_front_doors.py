"""The front behind the door that every server has: keys, TLS, and whose prefix is found again."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import openai
import pytest

from tests.limits import HANG_S
from tests.proto.certificates import KEY, OTHER_KEY, Authority, key_file
from tests.runtime_svc.http_front.front import asking, served


def _client(base: str, key: str, http: openai.DefaultHttpxClient | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0, timeout=HANG_S, http_client=http)


def test_who_has_no_key_is_told_so_and_prefixes_are_found_by_their_owner_alone(tmp_path: Path) -> None:
    with served("--key-file", str(key_file(tmp_path, KEY, OTHER_KEY))) as front:
        with (
            _client(front.http, "not-the-key-at-all") as wrong,
            pytest.raises(openai.AuthenticationError) as told,
        ):
            wrong.chat.completions.create(**asking("Is 7 even or odd?"))
        assert told.value.code == "invalid_api_key"
        assert told.value.response.headers["www-authenticate"] == "Bearer"
        assert "not-the-key-at-all" not in told.value.response.text
        for path, status in (("/health", 200), ("/ready", 200), ("/metrics", 401), ("/v1/models", 401)):
            assert httpx.get(f"{front.http}{path}", timeout=HANG_S).status_code == status
        found = []
        for key in (KEY, KEY, OTHER_KEY, OTHER_KEY):
            with _client(front.http, key) as client:
                done = client.chat.completions.create(
                    **asking("Is 7 even or odd?", prompt_cache_key="one for both")
                )
            assert done.choices[0].message.content
            assert done.usage is not None
            assert done.usage.prompt_tokens_details is not None
            found.append((done.usage.prompt_tokens_details.cached_tokens or 0) > 0)
        assert found == [False, True, False, True]


def test_it_speaks_tls_alone_where_it_has_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    with served("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)) as front:
        assert front.http.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        with _client(front.http, "none", openai.DefaultHttpxClient(verify=trusting)) as client:
            assert client.models.list().data[0].id == "treni-tiny"
        with (
            httpx.Client(timeout=HANG_S) as other,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"),
        ):
            other.get(f"{front.http}/health")
        with httpx.Client(timeout=HANG_S) as plain, pytest.raises(httpx.RemoteProtocolError):
            plain.get(f"{front.http.replace('https', 'http')}/health")
