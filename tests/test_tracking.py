from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow_server import PARAMETERS, MlflowServer, tracker_of

from kws.errors import KwsError
from kws.training import store
from kws.training.tracking import NoTracker, flatten, open_tracker, write_extra_files

pytest.importorskip("mlflow", reason="mlflow is missing: run pip install 'kws[tracking]'")

from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.usefixtures("untracked")


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


def some_files(folder: Path) -> list[Path]:
    (folder / "checkpoint.pt").write_bytes(bytes(range(256)) * 400)
    matrix = np.array([[3, 1], [0, 2]])
    return [folder / "checkpoint.pt", *write_extra_files(folder, ["نعم", "لا"], matrix, "test")]


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


@pytest.mark.slow
def test_more_parameters_and_epochs_than_a_server_takes_at_once_are_all_logged(server: MlflowServer) -> None:
    tracker = tracker_of(server.uri)
    epochs = [{"epoch": epoch, "a": 0.5, "b": 0.5} for epoch in range(1, 701)]
    tracker.start({"p": {str(index): index for index in range(230)}}, {}, history=epochs)
    client = MlflowClient(server.uri)
    assert len(client.get_run(tracker.run_id).data.params) == 230
    assert [step for step, _ in history(client, tracker.run_id, "b")] == list(range(1, 701))


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
