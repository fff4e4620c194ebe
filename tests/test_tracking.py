from __future__ import annotations

import base64
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws.errors import KwsError
from kws.training import store
from kws.training.store import StoreAddress
from kws.training.tracking import MlflowTracker, NoTracker, flatten, open_tracker, write_extra_files

pytest.importorskip("mlflow", reason="mlflow is missing: run pip install 'kws[tracking]'")

from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer, free_port

PARAMETERS = {"train": {"epochs": 4, "seed": 0}, "model": {"name": "bcresnet-1"}, "words": ["نعم", "لا"]}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many seconds a store may take to answer here."""
    monkeypatch.setattr(store, "TIMEOUT_S", 2)
    return store.TIMEOUT_S


@pytest.fixture(scope="module")
def local_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An sqlite store whose tables are made, which takes mlflow some seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    store.import_mlflow()
    MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


def figures(epoch: int) -> dict[str, float | int]:
    return {"epoch": epoch, "loss": 1 / (3 * epoch), "validation_accuracy": epoch / 7}


def history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))


def expected(name: str, epochs: int) -> list[tuple[int, float]]:
    return [(epoch, float(figures(epoch)[name])) for epoch in range(1, epochs + 1)]


def tracker_of(uri: str | None) -> MlflowTracker:
    tracker = open_tracker(track=True, uri=uri, run_name="run")
    assert isinstance(tracker, MlflowTracker)
    return tracker


def some_files(folder: Path) -> list[Path]:
    (folder / "checkpoint.pt").write_bytes(bytes(range(256)) * 400)
    matrix = np.array([[3, 1], [0, 2]])
    return [folder / "checkpoint.pt", *write_extra_files(folder, ["نعم", "لا"], matrix, "test")]


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


def test_without_being_asked_nothing_is_tracked_and_mlflow_not_loaded() -> None:
    program = (
        "import sys\nfrom kws.training.tracking import open_tracker\n"
        "tracker = open_tracker(track=False, uri=None, run_name='run')\n"
        "tracker.start({}, {}); tracker.epoch(1, {'loss': 1.0}); tracker.abort()\n"
        "assert tracker.finish({}, []) == () and tracker.run_id == ''\n"
        'sys.exit(f\'loaded {sys.modules.keys() & {"mlflow", "matplotlib"}}\' '
        "if sys.modules.keys() & {'mlflow', 'matplotlib'} else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_environment())
    assert (done.returncode, done.stderr) == (0, "")


def test_asked_for_but_not_installed_is_one_sentence_naming_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(KwsError, match=r"needs mlflow, which is not installed; run pip install 'kws\[tracking\]'\."):
        open_tracker(track=True, uri=None, run_name="run")
    assert isinstance(open_tracker(track=False, uri=None, run_name="run"), NoTracker)


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


def test_nested_parameters_become_dotted_names() -> None:
    assert flatten(PARAMETERS) == {
        "train.epochs": "4",
        "train.seed": "0",
        "model.name": "bcresnet-1",
        "words": "نعم,لا",
    }
    assert [len(text) for text in flatten({"words": ["x" * 499], "more": ["x" * 501]}).values()] == [499, 500]


def test_everything_of_a_run_is_in_the_local_store(local_store: str, tmp_path: Path) -> None:
    tracker = tracker_of(local_store)
    tracker.start(PARAMETERS, {"kws.version": "1"})
    for epoch in (1, 2, 3):
        tracker.epoch(epoch, figures(epoch))
    files = some_files(tmp_path)
    assert tracker.finish({"test_accuracy": 0.93}, files) == ()
    client = MlflowClient(local_store)
    run = client.get_run(tracker.run_id)
    assert run.data.params == flatten(PARAMETERS)
    assert run.data.tags["kws.version"] == "1"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert client.get_experiment(run.info.experiment_id).name == "kws"
    assert set(run.data.metrics) == {"loss", "validation_accuracy", "test_accuracy"}
    assert history(client, tracker.run_id, "loss") == expected("loss", 3)
    assert history(client, tracker.run_id, "test_accuracy") == [(3, 0.93)]
    for file in files:
        copy = Path(client.download_artifacts(tracker.run_id, file.name, str(tmp_path)))
        assert copy.read_bytes() == file.read_bytes()
    assert [file.name for file in files] == ["checkpoint.pt", "labels.txt", "confusion.png"]


def test_a_second_run_joins_the_experiment(local_store: str) -> None:
    client = MlflowClient(local_store)
    for _ in range(2):
        tracker = tracker_of(local_store)
        tracker.start({}, {})
        experiment = client.get_run(tracker.run_id).info.experiment_id
        assert client.get_experiment(experiment).name == "kws"


@pytest.mark.slow
def test_more_parameters_and_epochs_than_a_server_takes_at_once_are_all_logged(server: MlflowServer) -> None:
    tracker = tracker_of(server.uri)
    epochs = [{"epoch": epoch, "a": 0.5, "b": 0.5} for epoch in range(1, 701)]
    tracker.start({"p": {str(index): index for index in range(230)}}, {}, history=epochs)
    client = MlflowClient(server.uri)
    assert len(client.get_run(tracker.run_id).data.params) == 230
    assert [step for step, _ in history(client, tracker.run_id, "b")] == list(range(1, 701))


def test_a_resumed_run_goes_on_in_the_same_run_without_gaps_or_doubles(local_store: str) -> None:
    first = tracker_of(local_store)
    first.start(PARAMETERS, {})
    for epoch in (1, 3):
        first.epoch(epoch, figures(epoch))
    first.abort()
    client = MlflowClient(local_store)
    assert client.get_run(first.run_id).info.status == "KILLED"

    second = tracker_of(local_store)
    longer = PARAMETERS | {"train": {"epochs": 9, "seed": 0}, "new": 1}
    second.start(longer, {"resumed": "yes"}, run_id=first.run_id, history=[figures(1), figures(2)])
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "RUNNING"
    for epoch in (3, 4):
        second.epoch(epoch, figures(epoch))
    assert history(client, first.run_id, "loss") == expected("loss", 4)
    second.finish({}, [])
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == flatten(PARAMETERS) | {"new": "1"}
    assert {name: value for name, value in run.data.tags.items() if name.startswith("resumed")} == {
        "resumed": "yes",
        "resumed.train.epochs": "9",
    }


def test_a_run_that_the_store_does_not_have_is_refused(local_store: str) -> None:
    with pytest.raises(KwsError, match=r"has no run 0123abcd, in which this training began; name its store"):
        tracker_of(local_store).start(PARAMETERS, {}, run_id="0123abcd")


def test_a_file_that_cannot_be_logged_is_named_and_costs_nothing_else(
    local_store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = tracker_of(local_store)
    tracker.start({}, {})
    tracker.epoch(1, figures(1))
    (tmp_path / "labels.txt").write_text("a\n")
    files = [tmp_path / "labels.txt", tmp_path / "gone.pt"]
    assert tracker.finish({"test_accuracy": 0.5}, files) == ("gone.pt", "that it is finished")
    assert "): gone.pt, that it is finished.\n" in capfd.readouterr().err
    client = MlflowClient(local_store)
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["labels.txt"]
    assert history(client, tracker.run_id, "test_accuracy") == [(1, 0.5)]


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


@pytest.mark.slow
def test_the_default_store_is_what_mlflow_ui_shows_and_nothing_is_reported_to_anyone(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "sys.addaudithook(lambda event, arguments: print(event, arguments) "
        "if event in ('socket.connect', 'socket.getaddrinfo') else None)\n"
        "from kws.training.tracking import open_tracker\n"
        "tracker = open_tracker(track=True, uri=None, run_name='run')\n"
        "tracker.start({'a': 1}, {})\ntracker.epoch(1, {'loss': 1.0})\n"
        "Path('labels.txt').write_text('a')\nassert tracker.finish({}, [Path('labels.txt')]) == ()\n"
        "import mlflow, time\nassert mlflow.get_tracking_uri().endswith('/mlflow.db')\ntime.sleep(3)\n"
    )
    environment = {name: value for name, value in _environment().items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Tracking in mlflow at sqlite:///mlflow.db; to see it: mlflow ui\n"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlruns", "labels.txt"}


@pytest.mark.slow
def test_everything_of_a_run_is_on_the_server(
    server: MlflowServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = tracker_of(server.uri)
    tracker.start(PARAMETERS, {"kws.version": "1"})
    for epoch in (1, 2):
        tracker.epoch(epoch, figures(epoch))
    files = some_files(tmp_path)
    assert tracker.finish({"test_accuracy": 0.93}, files) == ()
    client = MlflowClient(server.uri)
    run = client.get_run(tracker.run_id)
    assert run.data.params == flatten(PARAMETERS)
    assert run.info.status == "FINISHED"
    assert history(client, tracker.run_id, "loss") == expected("loss", 2)
    for file in files:
        copy = Path(client.download_artifacts(tracker.run_id, file.name, str(tmp_path)))
        assert copy.read_bytes() == file.read_bytes()
    assert not (tmp_path / "mlruns").exists()
    printed = capfd.readouterr()
    page = f"{server.uri}/#/experiments/{run.info.experiment_id}/runs/{tracker.run_id}"
    assert printed.err == f"Tracking in mlflow at {server.uri}; to see it: {page}\n"
    assert printed.out == ""


@pytest.mark.slow
def test_a_server_that_stops_answering_delays_one_epoch_and_has_all_in_the_end(
    server: MlflowServer, impatient: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = tracker_of(server.uri)
    tracker.start(PARAMETERS, {})
    tracker.epoch(1, figures(1))
    server.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        tracker.epoch(2, figures(2))
        assert time.monotonic() - started < 2 * impatient + 2
        started = time.monotonic()
        for epoch in (3, 4):
            tracker.epoch(epoch, figures(epoch))
        assert time.monotonic() - started < 0.1
    finally:
        server.signal(signal.SIGCONT)
    assert capfd.readouterr().err.splitlines()[1:] == [
        f"mlflow at {server.uri} was lost in epoch 2 (no answer within {impatient} seconds); "
        "training goes on, and what it misses is sent once more at the end."
    ]
    time.sleep(1)
    assert tracker.finish({"test_accuracy": 0.5}, some_files(tmp_path)) == ()
    client = MlflowClient(server.uri)
    assert history(client, tracker.run_id, "loss") == expected("loss", 4)
    assert history(client, tracker.run_id, "test_accuracy") == [(4, 0.5)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_server_that_dies_costs_no_training_and_a_resumed_run_fills_the_gap(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    server = MlflowServer(folder)
    files = some_files(tmp_path)
    try:
        tracker = tracker_of(server.uri)
        tracker.start(PARAMETERS, {})
        tracker.epoch(1, figures(1))
        server.kill()
        started = time.monotonic()
        for epoch in (2, 3, 4):
            tracker.epoch(epoch, figures(epoch))
        missing = tracker.finish({"test_accuracy": 0.5}, files)
        tracker.abort()
        assert time.monotonic() - started < 5
        names = ("epochs 2 to 4", "the final figures", *(file.name for file in files), "that it is finished")
        assert missing == names
        assert capfd.readouterr().err.splitlines()[-1] == (
            f"Not in mlflow at {server.uri} (nothing listens there): {', '.join(names)}."
        )
        server = MlflowServer(folder, server.port)
        again = tracker_of(server.uri)
        again.start(PARAMETERS, {}, run_id=tracker.run_id, history=[figures(epoch) for epoch in (1, 2, 3, 4)])
        assert history(MlflowClient(server.uri), tracker.run_id, "loss") == expected("loss", 4)
    finally:
        server.kill()


def _environment() -> dict[str, str]:
    """For programs that run in another folder than the repository's."""
    root = str(Path(__file__).parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
