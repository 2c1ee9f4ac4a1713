"""minidl.interop.optuna and `minidl tune`: pruning, several processes on one study, and workers that are killed."""

import os
import signal
import subprocess
import sys
import time

import numpy
import pytest

import minidl as dl
from minidl.cli import main
from minidl.errors import NonFiniteError, ParameterError, UnknownNameError

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.peers

from minidl.interop import optuna as tuning  # noqa: E402

WORKER = """
import os, pathlib, sys, time
from minidl.interop.optuna import open_study, run_trials

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    time.sleep(0.1)
    return x * x

folder = pathlib.Path(sys.argv[1]).parent
(folder / f"ready {os.getpid()}").touch()
while len(list(folder.glob("ready *"))) < 3:  # all begin together
    time.sleep(0.01)
run_trials(open_study(sys.argv[1]), objective, 24, sys.argv[1])
"""


def states(study):
    return [trial.state.name for trial in study.trials]


def is_running(study, pid):
    """Whether a process is in the midst of a trial, and others came before."""
    found = study.get_trials(deepcopy=False)
    return len(found) > 3 and any(
        t.state.name == "RUNNING" and t.user_attrs.get("worker", [0] * 3)[2] == pid for t in found
    )


def quadratic(trial):
    return trial.suggest_float("x", -1, 1) ** 2


def die_in(study):
    """Leave a trial as a worker that was killed leaves it."""
    trial = study.ask()
    trial.suggest_float("x", -1, 1)
    host, start, _, _ = tuning._identity(os.getpid())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    born = tuning._born(dead.pid)
    dead.wait()
    trial.set_user_attr("worker", [host, start, dead.pid, born])
    return trial


def test_the_callback_prunes_and_names_a_number_that_is_not_there():
    x = numpy.linspace(-1, 1, 16).reshape(-1, 1)
    epochs = []

    def objective(trial):
        dl.seed(0)
        model = dl.Sequential([dl.Linear(1, 1)])
        model.compile(dl.SGD(model.parameters(), lr=trial.suggest_float("lr", 1e-9, 0.1, log=True)), "mse")
        try:
            return model.fit(x, 2 * x, epochs=10, callbacks=[tuning.PruningCallback(trial, "loss")]).history["loss"][-1]
        finally:
            epochs.append(len(model.history.epoch))

    study = optuna.create_study(
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1), sampler=optuna.samplers.RandomSampler(0)
    )
    for rate in (0.1, 1e-9):
        study.enqueue_trial({"lr": rate})
    study.optimize(objective, n_trials=2)
    assert states(study) == ["COMPLETE", "PRUNED"]
    assert epochs[0] == 10
    assert epochs[1] < 5
    model = dl.Sequential([dl.Linear(1, 1)])
    model.compile("sgd", "mse")
    with pytest.raises(UnknownNameError, match="'val_loss'; known: loss"):
        model.fit(x, x, callbacks=[tuning.PruningCallback(study.ask())])


def test_workers_that_are_killed_lose_nothing(tmp_path):
    path = tmp_path / "study.journal"
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(path)]) for _ in range(3)]
    study = tuning.open_study(path)
    for worker in workers[:2]:
        until = time.monotonic() + 60
        while time.monotonic() < until and not is_running(study, worker.pid):
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert workers[2].wait(60) == 0
    tuning.run_trials(study, quadratic, 24, path)
    trials = study.trials
    again = [trial for trial in trials if "again" in trial.user_attrs]
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert failed
    assert sorted(trial.user_attrs["again"] for trial in again) == [trial.number for trial in failed]
    assert all(
        trial.params == trials[trial.user_attrs["again"]].params
        for trial in again
        if trials[trial.user_attrs["again"]].params
    )
    assert len(trials) - len(again) == 24
    assert states(study).count("COMPLETE") == 24


def test_a_lost_trial_is_queued_once_even_if_the_one_who_queued_it_is_killed(tmp_path, monkeypatch):
    study = tuning.open_study(tmp_path / "study.journal")
    lost = die_in(study)
    living = study.ask()
    living.set_user_attr("worker", list(tuning._identity(os.getpid())))
    with monkeypatch.context() as patch:
        patch.setattr(study, "tell", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tuning.recover(study)
    assert tuning.recover(study) == [lost.number]
    assert tuning.recover(study) == []
    assert states(study) == ["FAIL", "RUNNING", "WAITING"]
    assert study.ask().suggest_float("x", -1, 1) == lost.params["x"]


def test_settings_that_kill_every_worker_are_given_up(tmp_path):
    path = tmp_path / "study.journal"
    study = tuning.open_study(path)
    for attempt in range(tuning.ATTEMPTS):
        trial = die_in(study)
        assert trial.user_attrs.get("attempt", 1) == attempt + 1
        tuning.recover(study)
    assert tuning.run_trials(study, quadratic, 3, path) == 2
    assert states(study) == ["FAIL"] * 3 + ["COMPLETE"] * 2


def test_a_training_that_diverges_fails_and_another_error_ends_the_work(tmp_path):
    path = tmp_path / "study.journal"
    study = tuning.open_study(path)
    errors = [NonFiniteError("nan"), optuna.TrialPruned(), ValueError("a bug")]

    def objective(trial):
        raise errors.pop(0)

    with pytest.raises(ValueError, match="a bug"):
        tuning.run_trials(study, objective, 9, path)
    assert states(study) == ["FAIL", "PRUNED", "FAIL"]
    assert tuning.run_trials(study, quadratic, 4, path) == 1


def test_a_process_of_another_machine_or_birth():
    host, start, pid, born = tuning._identity(os.getpid())
    assert tuning._is_alive([host, start, pid, born])
    assert tuning._is_alive(["elsewhere", "", 1, ""])
    assert not tuning._is_alive([host, start, pid, born + "0"])
    assert not tuning._is_alive([host, "an earlier start", pid, born])
    assert not tuning._is_alive(None)


@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_the_command(tmp_path, capsys, task):
    pytest.importorskip("matplotlib")
    random = numpy.random.default_rng(0)
    x = random.normal(size=(240, 3))
    y = numpy.where(x[:, 0] * x[:, 1] > 0, "yes", "no") if task == "classes" else (x[:, 0] * x[:, 1]).round(4)
    rows = [",".join([*map(str, row), str(target)]) for row, target in zip(x.round(4), y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,target", *rows]) + "\n")
    command = [
        "tune",
        "--data",
        str(tmp_path / "t.csv"),
        "--target",
        "target",
        "--study",
        str(tmp_path / "s.journal"),
        "--epochs",
        "6",
    ]
    options = ["--units", "8..32", "--batch-size", "16", "--best", "2", "--lr", "1e-3..1e-1:log"]
    save = ["--picture", str(tmp_path / "p.png"), "--save", str(tmp_path / "m.safetensors")]
    assert main([*command, *options, "--trials", "6"]) == 0
    assert "6 trials, 6 of them run here" in capsys.readouterr().out
    assert main([*command, *options, "--trials", "9", *save]) == 0
    printed = capsys.readouterr().out
    assert "9 trials, 3 of them run here" in printed
    assert "importance: " in printed
    assert "batch_size" not in printed.partition("importance")[0]
    scores = {
        line[:14].strip(): float(line.split()[-1])
        for line in printed.splitlines()
        if line.startswith(("default", "best", "ens"))
    }
    assert scores["ensemble of 2"] > 0.6
    assert scores["ensemble of 2"] >= scores["default"] - 0.05
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert (tmp_path / "m.safetensors").exists()
    assert main([*command[:-1], "7", "--trials", "9"]) == 2
    assert "--epochs was 6" in capsys.readouterr().err
    assert main([*command, "--trials", "9", "--lr", "3..1"]) == 2
    assert "--lr: expected a range" in capsys.readouterr().err


def test_a_study_needs_a_folder(tmp_path):
    with pytest.raises(ParameterError, match="there is no folder"):
        tuning.open_study(tmp_path / "nowhere" / "study.journal")
