"""The services that a run can be followed to. Their packages are imported when they are used."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from os import environ
from pathlib import Path
from typing import Any

from vprep.errors import UsageError
from vtrain.follow.sink import FollowedRun, Sink, sink_error
from vtrain.follow.wandb_files import last_step
from vtrain.overrides import flat

TIMEOUT = 30.0  # seconds that wandb may take to begin a run
MOST_PARAMS, MOST_TEXT = 100, 500  # of MLflow: settings in one request, and characters of one


class Wandb:
    """Weights & Biases; WANDB_MODE=offline writes files, which `wandb sync` sends later."""

    def __init__(self) -> None:
        self._wandb = import_module("wandb")
        self._failed = False
        self._run: Any = None

    def open(self, run: FollowedRun) -> int | None:
        with _errors("wandb"):
            if self._failed:
                self._wandb.teardown()  # else the run that could not begin counts as one in use
            self._failed = True
            settings = self._wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, init_timeout=TIMEOUT
            )
            self._run = self._wandb.init(
                project=run.project, name=run.name, id=run.identifier, config=run.config, resume="allow",
                reinit="finish_previous", settings=settings,
            )  # fmt: skip
            self._failed = False
            if self._run.offline:
                return last_step(Path(self._run.settings.wandb_dir), run.identifier)
            return int(self._run.step) - 1 if self._run.resumed else -1

    def send(self, step: int, numbers: Mapping[str, float]) -> bool:
        with _errors("wandb"):
            self._run.log(dict(numbers), step=step)
        return True

    def close(self, *, finished: bool) -> None:
        with _errors("wandb"):
            if self._run is not None:
                self._run.finish(exit_code=0)


class MLflow:
    """MLflow, at the place that MLFLOW_TRACKING_URI names."""

    def __init__(self) -> None:
        environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the follower tries again, and says so
        self._tracking = import_module("mlflow.tracking")
        self._entities = import_module("mlflow.entities")
        self._client: Any = None
        self._run = ""
        self._last: dict[str, int] = {}  # the last step of each metric that the service has

    def open(self, run: FollowedRun) -> int | None:
        with _errors("mlflow"):
            self._client = self._tracking.MlflowClient()
            self._run = self._found(run) or self._created(run)
            names = self._client.get_run(self._run).data.metrics
            history = {name: self._client.get_metric_history(self._run, name) for name in names}
        self._last = {name: max(point.step for point in points) for name, points in history.items() if points}
        # The last step may have arrived in part, so it is sent once more without the metrics that arrived.
        return max(self._last.values(), default=0) - 1

    def send(self, step: int, numbers: Mapping[str, float]) -> bool:
        now = int(time.time() * 1000)
        with _errors("mlflow"):
            new = {_mlflow_name(name): value for name, value in numbers.items()}
            new = {name: value for name, value in new.items() if self._last.get(name, -1) < step}
            metrics = [self._entities.Metric(name, value, now, step) for name, value in new.items()]
            if metrics:
                self._client.log_batch(self._run, metrics=metrics)
        self._last |= dict.fromkeys(new, step)
        return bool(new)

    def close(self, *, finished: bool) -> None:
        with _errors("mlflow"):
            if self._run and finished:
                self._client.set_terminated(self._run)

    def _found(self, run: FollowedRun) -> str | None:
        experiment = self._client.get_experiment_by_name(run.project)
        if experiment is None:
            return None
        known = self._client.search_runs([experiment.experiment_id], f"tags.`playspeed.id` = '{run.identifier}'")
        return str(known[0].info.run_id) if known else None

    def _created(self, run: FollowedRun) -> str:
        experiment = self._client.get_experiment_by_name(run.project)
        number = self._client.create_experiment(run.project) if experiment is None else experiment.experiment_id
        tags = {"mlflow.runName": run.name, "playspeed.id": run.identifier}
        created = str(self._client.create_run(number, tags=tags).info.run_id)
        params = [self._entities.Param(_mlflow_name(key), text[:MOST_TEXT]) for key, text in flat(run.config)]
        for begin in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(created, params=params[begin : begin + MOST_PARAMS])
        return created


class Trackio:
    """Trackio: a local folder (TRACKIO_DIR), or the server that its own variables name."""

    def __init__(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._trackio = import_module("trackio")
        self._run: Any = None

    def open(self, run: FollowedRun) -> int | None:
        with _errors("trackio"), contextlib.redirect_stdout(sys.stderr):
            self._run = self._trackio.init(
                project=run.project, name=run.name, config=run.config, resume="never" if run.is_new else "allow",
                embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip
            return self._last_step(run)

    def send(self, step: int, numbers: Mapping[str, float]) -> bool:
        with _errors("trackio"), contextlib.redirect_stdout(sys.stderr):
            self._run.log(dict(numbers), step=step)
        return True

    def close(self, *, finished: bool) -> None:
        with _errors("trackio"), contextlib.redirect_stdout(sys.stderr):
            if self._run is not None:
                self._trackio.finish()  # of the package, which else does it once more at the end of the process

    def _last_step(self, run: FollowedRun) -> int | None:
        """Return the last step in the local folder; None where trackio cannot say."""
        if not getattr(self._run, "_is_local", False):
            return None
        with contextlib.suppress(ImportError, AttributeError, TypeError):
            storage = import_module("trackio.sqlite_storage").SQLiteStorage
            last = storage.get_last_step(run.project, run=run.name, run_id=self._run.id)
            return -1 if last is None else int(last)
        return None


SERVICES: dict[str, tuple[Callable[[], Sink], str]] = {
    "wandb": (Wandb, "wandb"),
    "mlflow": (MLflow, "mlflow"),
    "trackio": (Trackio, "trackio"),
}


def check_service(name: str) -> None:
    """Refuse a service that is not known, or whose package is not installed."""
    if name not in SERVICES:
        raise UsageError(f"--to is '{name}'; it must be one of {', '.join(SERVICES)}")
    package = SERVICES[name][1]
    if find_spec(package) is None:
        raise UsageError(f"--to {name} needs the package {package}, which is not installed; run: pip install {package}")


def service(name: str) -> Sink:
    """Return the service of this name."""
    try:
        return SERVICES[name][0]()
    except ImportError as error:
        package = SERVICES[name][1]
        raise UsageError(f"the package {package} cannot be imported ({error}); run: pip install -U {package}") from None


@contextlib.contextmanager
def _errors(service: str) -> Iterator[None]:
    """Turn every error of a service's package into one without credentials."""
    try:
        yield
    except Exception as error:
        raise sink_error(service, error) from None


def _mlflow_name(name: str) -> str:
    """Return a name in the letters that MLflow allows."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in name)[:250]
