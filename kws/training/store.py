"""Where an mlflow store is, how to call it without waiting long, and in plain words why it failed.

Credentials in the address (http://USER:PASSWORD@HOST) go to mlflow alone: nothing here prints them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from urllib.parse import SplitResult, unquote, urlsplit

from kws.errors import KwsError

# What `mlflow ui` without options shows, from mlflow 3 on.
DEFAULT_URI = "sqlite:///mlflow.db"
TIMEOUT_S = 5
INSTALL = "pip install 'kws[tracking]'"
MAX_REASON_CHARACTERS = 200
_BARE_SCHEMES = ("databricks", "databricks-uc")


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """`uri` is for mlflow, `shown` for people; `environment` is set while mlflow is called."""

    uri: str = field(repr=False)
    shown: str
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_http(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    @staticmethod
    def of(uri: str | None) -> StoreAddress:
        """The address given, or that in MLFLOW_TRACKING_URI, or ./mlflow.db. Raises KwsError if it is no address."""
        given = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        if given in _BARE_SCHEMES:
            return StoreAddress(uri=given, shown=given)
        try:
            parts = urlsplit(given)
            is_usable = _names_a_store(given, parts)
        except ValueError:
            is_usable = False
        if not is_usable:
            raise KwsError(
                "The address of the mlflow store cannot be understood; write http://HOST:PORT or sqlite:///FILE."
            )
        shown, secrets = _without_secrets(parts), _secrets(parts)
        if parts.scheme not in ("http", "https"):
            return StoreAddress(uri=given, shown=shown, secrets=secrets)
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        values = (parts.username, parts.password)
        credentials = {name: unquote(value) for name, value in zip(names, values, strict=True) if value}
        return StoreAddress(uri=shown, shown=shown, environment=credentials, secrets=secrets)

    @contextlib.contextmanager
    def quickly(self) -> Iterator[None]:
        """Within, mlflow has address and credentials, waits TIMEOUT_S seconds for an answer and asks once."""
        wanted = self.environment | {
            # Older mlflow sends files to this server, whatever address the client was given.
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT_S),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def reason(self, error: BaseException) -> str:
        """Why a call of mlflow failed, as half a sentence without credentials."""
        chain = _causes(error)
        if any(isinstance(cause, socket.gaierror) for cause in chain):
            return "no such host is known"
        if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
            return "nothing listens there"
        if any(isinstance(cause, ssl.SSLError) for cause in chain):
            return "no secure connection comes about"
        if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in chain):
            return f"no answer within {TIMEOUT_S} seconds"
        status = next((cause.get_http_status_code() for cause in chain if hasattr(cause, "get_http_status_code")), 0)
        if self.is_http and status in (401, 403):
            return "it refuses these credentials"
        if self.is_http and any(getattr(cause, "error_code", "") == "ENDPOINT_NOT_FOUND" for cause in chain):
            return "what answers there is no mlflow server"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return self._scrubbed(lines[0])[:MAX_REASON_CHARACTERS].rstrip(" .")

    def _scrubbed(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def import_mlflow() -> ModuleType:
    """The package, kept from reporting its use to its makers and from chatting.

    Raises KwsError if it is missing or does not import.
    """
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true"
    )
    try:
        import mlflow
        import mlflow.tracking
    except ImportError as error:
        if error.name == "mlflow":
            raise KwsError(f"Tracking needs mlflow, which is not installed; run {INSTALL}.") from error
        raise KwsError(f"mlflow cannot be imported ({error}); run {INSTALL}.") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    module: ModuleType = mlflow
    return module


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _names_a_store(given: str, parts: SplitResult) -> bool:
    """Raises ValueError for a port that is no number."""
    if parts.scheme in ("http", "https"):
        return bool(parts.hostname) and parts.port != 0
    has_place = parts.path not in ("", "/") or not parts.scheme.startswith(("sqlite", "file"))
    return "://" in given and bool(parts.scheme) and has_place


def _secrets(parts: SplitResult) -> tuple[str, ...]:
    """What must not be shown, the longest first."""
    userinfo = parts.netloc.rpartition("@")[0]
    found = {userinfo, parts.password or "", unquote(parts.password or ""), parts.query}
    return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))


def _without_secrets(parts: SplitResult) -> str:
    """Without user, password, query and fragment; a page copied from the browser thus works, too."""
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/") if parts.scheme in ("http", "https") else parts.path
    return f"{parts.scheme}://{host}{path}"
