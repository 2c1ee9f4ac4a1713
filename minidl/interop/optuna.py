"""Searching settings with Optuna: trials that are pruned, shared by several processes, and never lost when one is killed.

The extra ``tune`` installs Optuna. ``minidl tune`` is made of these parts; see docs/tuning.md.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from minidl.errors import MissingDependencyError, NonFiniteError, ParameterError, UnknownNameError
from minidl.training import Callback

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise MissingDependencyError.needs("minidl.interop.optuna", "optuna>=4", "tune") from error

__all__ = ["PruningCallback", "open_study", "recover", "run_trials"]

ATTEMPTS = 3
"""How often settings are tried whose process dies: settings that exhaust the memory would kill one worker after another."""


class PruningCallback(Callback):
    """Tell an Optuna trial how each epoch ended, and stop where its pruner sees no promise.

    Parameters
    ----------
    trial : optuna.Trial
    monitor : str, default "val_loss"
        The number of the logs that the study minimises or maximises.

    Raises
    ------
    UnknownNameError
        Before the first epoch, if there is no number of that name.
    optuna.TrialPruned
        After an epoch, from ``fit``; Optuna's ``optimize`` expects it.

    Examples
    --------
    >>> import numpy, minidl as dl
    >>> def objective(trial):
    ...     model = dl.Sequential([dl.Linear(1, 1)])
    ...     model.compile(dl.SGD(model.parameters(), lr=trial.suggest_float("lr", 0.01, 0.1)), "mse")
    ...     x = numpy.linspace(-1, 1, 16).reshape(-1, 1)
    ...     history = model.fit(x, 2 * x, epochs=3, callbacks=[PruningCallback(trial, "loss")])
    ...     return history.history["loss"][-1]
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study()
    >>> study.optimize(objective, n_trials=3)
    >>> len(study.trials)
    3
    """

    def __init__(self, trial: Any, monitor: str = "val_loss") -> None:
        self.trial, self.monitor = trial, monitor

    def on_train_begin(self, logs: Any = None) -> None:
        if self.monitor not in self.numbers:
            raise UnknownNameError.among("number to monitor for PruningCallback", self.monitor, self.numbers)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.trial.report(logs[self.monitor], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {epoch + 1}")


# a study that several processes work on -------------------------------------------------------------------------------


def open_study(path: str | os.PathLike[str], name: str = "minidl", seed: int | None = None) -> optuna.Study:
    """Open the study in a journal file, or begin one there; any number of processes may have it open.

    Parameters
    ----------
    path : path
    name : str, default "minidl"
    seed : int, optional
        Of what is suggested. With several processes each needs its own, or none.

    Returns
    -------
    optuna.Study
        It minimises; Optuna's TPE suggests, and a trial is pruned whose loss is worse than the median.

    Raises
    ------
    ParameterError
        If there is no folder for the file.
    """
    if not Path(path).absolute().parent.is_dir():
        raise ParameterError(f"open_study: there is no folder {Path(path).absolute().parent}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock: Any = _Lock(f"{os.fspath(path)}.write-lock")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the sampler's options
        sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    return optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(os.fspath(path), lock)),
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
        load_if_exists=True,
    )


def run_trials(
    study: optuna.Study, objective: Callable[[Any], float], trials: int, path: str | os.PathLike[str]
) -> int:
    """Run trials until the study has had this many, whoever ran them; return how many this process ran.

    Every process that works on the study calls this. Trials whose process died are run again.

    Parameters
    ----------
    study : optuna.Study
        As :func:`open_study` returns it.
    objective : callable
        ``objective(trial)`` returns the number to minimise. ``NonFiniteError``, of a training that diverged, fails the trial;
        any other error ends this process's work.
    trials : int
        A trial that is run again counts once.
    path : path
        The file of the study.
    """
    own = 0
    while True:
        with _Lock(f"{os.fspath(path)}.lock"):
            recover(study)
            trial = _ask(study, trials)
        if trial is None:
            return own
        own += 1
        try:
            value, state = objective(trial), TrialState.COMPLETE
        except optuna.TrialPruned:
            value, state = None, TrialState.PRUNED
        except NonFiniteError:
            value, state = None, TrialState.FAIL
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
        study.tell(trial, value, state)


def recover(study: optuna.Study) -> list[int]:
    """Queue the settings of trials whose process is gone; return the numbers of these trials.

    The process is known by its host, number and time of birth, so that whether it lives is a fact, not a time-out. Call it
    while no other process of the study does; :func:`run_trials` sees to that.

    Returns
    -------
    list of int
    """
    found = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs["again"] for trial in found if "again" in trial.user_attrs}
    lost = [t for t in found if t.state == TrialState.RUNNING and not _is_alive(t.user_attrs.get("worker"))]
    for trial in lost:
        attempt = int(trial.user_attrs.get("attempt", 1))
        if (
            trial.number not in queued and attempt < ATTEMPTS
        ):  # it is, if whoever queued it was killed before the next line
            first = trial.user_attrs.get("first", trial.number)
            about = {"again": trial.number, "first": first, "attempt": attempt + 1}
            study.enqueue_trial(trial.params, user_attrs=about)
        study.tell(trial.number, state=TrialState.FAIL)
    return [trial.number for trial in lost]


def _ask(study: optuna.Study, trials: int) -> optuna.Trial | None:
    """Return a trial of this process, or None if there have been enough."""
    found: list[FrozenTrial] = study.get_trials(deepcopy=False)
    waiting = any(trial.state == TrialState.WAITING for trial in found)
    if not waiting and sum("again" not in trial.user_attrs for trial in found) >= trials:
        return None
    trial = study.ask()
    trial.set_user_attr("worker", list(_identity(os.getpid())))
    return trial


def _identity(pid: int) -> tuple[str, str, int, str]:
    """Return what tells a process from every other: the host, its last start, the number, and when it was born."""
    return socket.gethostname(), _last_start(), pid, _born(pid)


def _is_alive(worker: Any) -> bool:
    """Whether a process of that identity runs. One of another machine is not ours to judge; one that left no name died."""
    if worker is None:
        return False
    host, started, pid, born = worker
    if host != socket.gethostname():
        return True
    return started == _last_start() and born != "" and born == _born(int(pid))


def _last_start() -> str:
    """Return an identity of this start of the machine, where it has one."""
    source = Path("/proc/sys/kernel/random/boot_id")
    return source.read_text(encoding="ascii").strip() if source.exists() else ""


def _born(pid: int) -> str:
    """Return when a process was born, or "" if there is none."""
    if sys.platform == "win32":
        query = ["powershell", "-NoProfile", "-Command", f"(Get-Process -Id {pid}).StartTime.Ticks"]
    elif Path("/proc/self/stat").exists():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return "" if fields[0] == "Z" else fields[19]  # a zombie is dead; the 22nd field, in ticks since the start
        return ""
    else:
        query = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


class _Lock:
    """A lock, as Optuna's journal takes one, that the system takes from a process that dies.

    Optuna's own locks are files that a killed process leaves behind; the others then wait for half a minute.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait until nobody else holds the lock."""
        self._file = Path(self.path).open("a+b")  # noqa: SIM115 - closed by release
        if sys.platform == "win32":
            import msvcrt

            while True:
                self._file.seek(0)
                with contextlib.suppress(OSError):  # after ten seconds, although somebody still works
                    msvcrt.locking(self._file.fileno(), msvcrt.LK_LOCK, 1)
                    return True
        import fcntl

        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let others have the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()
