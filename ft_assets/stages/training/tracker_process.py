"""The process of one tracker: `python -m ft_assets.stages.training.tracker_process NAME`.

It reads JSON lines from standard input: the run, then the metrics of each step, then the status. The end of
input without a status means that the training died. On standard output it says what a person should know.
"""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

from ft_assets.children import restrict
from ft_assets.files import without_logins

PROJECT = "ft-assets"
"""The project (MLflow: experiment) of all runs, unless the tracker's own variable names another."""
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL|USERNAME", re.IGNORECASE)
_LONGEST = 300

Say = Callable[[str], None]
Message = dict[str, Any]


class Sink(NamedTuple):
    """A run that was begun: takes the metrics of a step, and the status at its end."""

    log: Callable[[int, dict[str, float]], None]
    end: Callable[[str], None]


def begin_wandb(run: Message, say: Say) -> Sink:
    """A run of Weights & Biases, online or by `WANDB_MODE`; offline if it cannot be reached.

    Neither code nor files nor facts about the machine and the command are sent.
    """
    wandb: Any = import_module("wandb")
    settings = {
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "init_timeout": 30.0,
        "login_timeout": 10.0,
        "silent": True,
    }

    def init(**more: Any) -> Any:
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run["name"],
            id=run["id"],
            dir=run["folder"],
            config=run["settings"],
            resume="allow",
            settings=wandb.Settings(**settings),
            **more,
        )

    try:
        made = init()
    except Exception as error:
        say(f"it cannot be reached ({without_secrets(error)}): the run is logged offline")
        wandb.teardown()  # it still holds the run's id
        made = init(mode="offline")
    if made.offline:
        folder = Path(made.dir).parent
        say(f"offline; to upload it later: wandb sync {shlex.quote(str(folder))}")
    elif made.url:
        say(str(made.url))
    made.define_metric("step")
    made.define_metric("*", step_metric="step")
    return Sink(
        lambda step, metrics: made.log({**metrics, "step": step}),
        lambda status: made.finish(exit_code=0 if status == "finished" else 1),
    )


def begin_mlflow(run: Message, say: Say) -> Sink:
    """A run of MLflow, at `MLFLOW_TRACKING_URI` or in a database beside the logs.

    The client is used directly: MLflow's usual functions send the user's name and the command's path.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    tracking: Any = import_module("mlflow.tracking")
    entities: Any = import_module("mlflow.entities")
    folder = Path(run["folder"])
    local = f"sqlite:///{folder.parents[1] / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or local
    client = tracking.MlflowClient(tracking_uri=uri)
    kept = folder / "mlflow-run-id"
    if kept.exists():
        known = kept.read_text()
        client.update_run(known, status="RUNNING")
    else:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        known = client.create_run(experiment, run_name=run["name"]).info.run_id
        kept.write_text(known)
        params = [entities.Param(key, str(value)[:500]) for key, value in run["settings"].items()]
        client.log_batch(known, params=params[:100])
    ui = f": mlflow ui --backend-store-uri {shlex.quote(local)}" if uri == local else ""
    say(f"run {run['name']}{ui}")

    def log(step: int, metrics: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        client.log_batch(
            known,
            metrics=[entities.Metric(key, value, now, step) for key, value in metrics.items()],
        )

    statuses = {"finished": "FINISHED", "failed": "FAILED"}
    return Sink(log, lambda status: client.set_terminated(known, statuses.get(status, "KILLED")))


def begin_trackio(run: Message, say: Say) -> Sink:
    """A run of Trackio, on this machine or by its own variables; a Space that it creates is private."""
    trackio: Any = import_module("trackio")
    trackio.init(
        project=PROJECT,
        name=run["name"],
        config=run["settings"],
        resume="allow",
        private=True,
        embed=False,
    )
    remote = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
    say(f"run {run['name']}" + ("" if remote else f": trackio show --project {PROJECT}"))
    return Sink(
        lambda step, metrics: trackio.log(metrics, step=step), lambda status: trackio.finish()
    )


BEGIN: dict[str, Callable[[Message, Say], Sink]] = {
    "wandb": begin_wandb,
    "mlflow": begin_mlflow,
    "trackio": begin_trackio,
}


def without_secrets(error: BaseException) -> str:
    """The first line of an error, without the values of secret variables and without logins."""
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 4:
            said = said.replace(value, "…")
    return without_logins(said)[:_LONGEST]


def track(name: str, lines: IO[str], tell: Callable[[Message], None]) -> None:
    """Passes on what `lines` say to the tracker `name`."""
    try:
        sink = BEGIN[name](json.loads(lines.readline()), lambda said: tell({"said": said}))
        status = "interrupted"
        for line in lines:
            message = json.loads(line)
            status = message.get("status", status)
            if "metrics" in message:
                sink.log(message["step"], message["metrics"])
        sink.end(status)
    except BaseException as error:  # libraries exit, too
        tell({"failed": without_secrets(error)})
    tell({"ended": True})


def no_telemetry() -> None:
    """Turns off what the libraries report to their makers."""
    for variable, value in {
        "DO_NOT_TRACK": "true",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }.items():
        os.environ[variable] = value


def main() -> None:
    """Keeps standard output for our own lines: libraries print to it."""
    restrict("tracker")
    no_telemetry()
    with os.fdopen(os.dup(1), "w") as ours:
        os.dup2(2, 1)

        def tell(message: Message) -> None:
            print(json.dumps(message), file=ours, flush=True)

        track(sys.argv[1], sys.stdin, tell)
        os._exit(0)  # what a library does at the end of Python could wait for its network again


if __name__ == "__main__":
    main()
