from __future__ import annotations

import base64
import http.server
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import PARAMETERS, free_port, tracker_of

from kws.errors import KwsError
from kws.training import store
from kws.training.store import StoreAddress
from kws.training.tracking import open_tracker

pytest.importorskip("mlflow", reason="mlflow is missing: run pip install 'kws[tracking]'")

pytestmark = pytest.mark.usefixtures("untracked")


@contextmanager
def answering(status: int, body: bytes = b"") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server that gives every request the same answer; yields its address and the headers it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_address[1]}", seen
        running.shutdown()


def refusal(uri: str) -> str:
    with pytest.raises(KwsError) as caught:
        tracker_of(uri).start(PARAMETERS, {})
    return str(caught.value)


@pytest.mark.parametrize(
    "uri",
    ["127.0.0.1:5000", "localhost:5000", "./mlruns", "http://", "http://host:port", "http://[::1", "sqlite:///", "x"],
)
def test_an_address_that_mlflow_would_take_for_a_folder_is_refused_and_makes_none(uri: str, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"cannot be understood; write http://HOST:PORT or sqlite:///FILE"):
        open_tracker(track=False, uri=uri, run_name="run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:pass%40word@host:5000/a/?token=secret#/experiments/1", "http://host:5000/a"),
        ("postgresql+psycopg2://user:word@host/runs?password=secret", "postgresql+psycopg2://host/runs"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_an_address_is_shown_without_its_credentials(uri: str, shown: str) -> None:
    address = StoreAddress.of(uri)
    assert address.shown == shown
    assert "word" not in repr(address)


def test_a_reason_is_given_without_the_credentials_in_it() -> None:
    uri = "postgresql://anna:pass%40word@host/runs?token=5e"
    error = RuntimeError(f"cannot open {uri}: user anna:pass%40word, password pass@word, quoted pass%40word\nmore")
    assert StoreAddress.of(uri).reason(error) == (
        "cannot open postgresql://***@host/runs?***: user ***, password ***, quoted ***"
    )


def test_the_store_is_the_one_given_or_that_of_the_environment_or_the_local_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert StoreAddress.of(None).uri == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert StoreAddress.of(None).uri == "http://elsewhere:5000"
    assert StoreAddress.of("http://here:5000").uri == "http://here:5000"


def test_a_port_where_nothing_listens_fails_at_once_without_showing_the_password() -> None:
    port = free_port()
    started = time.monotonic()
    sentence = refusal(f"http://user:hidden@127.0.0.1:{port}")
    assert time.monotonic() - started < 5
    assert sentence == (
        f"mlflow at http://127.0.0.1:{port} cannot be used (nothing listens there); "
        "start it, correct --tracking-uri, or train without tracking."
    )


def test_a_host_that_does_not_exist_fails_within_seconds() -> None:
    started = time.monotonic()
    assert "mlflow at http://no-such-host.invalid:5000 cannot be used (no such host" in refusal(
        "http://no-such-host.invalid:5000"
    )
    assert time.monotonic() - started < 20


def test_a_host_that_accepts_but_never_answers_fails_within_the_time_set(impatient: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        sentence = refusal(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert f"no answer within {impatient} seconds" in sentence
    assert impatient * 0.9 < time.monotonic() - started < 2 * impatient + 2


def test_nobody_waits_long_for_an_answer() -> None:
    assert store.TIMEOUT_S <= 10


def test_another_web_server_is_no_mlflow() -> None:
    with answering(404, b"<html>not here</html>") as (host, _):
        assert "what answers there is no mlflow server" in refusal(f"http://{host}")
    with answering(200, b"<html>welcome</html>") as (host, _):
        assert f"mlflow at http://{host} cannot be used (" in refusal(f"http://{host}")


def test_credentials_reach_the_server_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    with answering(401) as (host, seen):
        sentence = refusal(f"http://anna:se%2Fcret@{host}")
    assert "it refuses these credentials" in sentence
    assert seen[0]["Authorization"] == "Basic " + base64.b64encode(b"anna:se/cret").decode()
    printed = capfd.readouterr()
    assert not any(secret in sentence + printed.out + printed.err for secret in ("anna", "se/cret", "se%2Fcret"))
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


def test_settings_for_a_call_of_mlflow_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with pytest.raises(RuntimeError), StoreAddress.of("http://u:p@host").quickly():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == str(store.TIMEOUT_S)
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p"
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://host"
        raise RuntimeError
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    gone = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_URI"}
    assert not os.environ.keys() & gone


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    sentence = refusal("sqlite:///mlflow.db")
    assert sentence.startswith("mlflow at sqlite:///mlflow.db cannot be used (")
    assert "\n" not in sentence


def test_a_package_that_a_store_needs_and_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    sentence = refusal("postgresql+psycopg2://anna:hidden@127.0.0.1/runs")
    assert sentence == (
        "mlflow at postgresql+psycopg2://127.0.0.1/runs needs psycopg2, which is not installed; install it with pip."
    )
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    sentence = refusal("sqlite:////dev/null/mlflow.db")
    assert sentence.endswith("needs sqlalchemy, which is not installed; run pip install 'kws[tracking]'.")
