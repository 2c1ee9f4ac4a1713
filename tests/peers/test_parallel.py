"""Data parallel training, in processes that mpiexec starts: what each of them does is in parallel_worker.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="needs mpi4py")
pytest.importorskip("safetensors", reason="needs safetensors")

BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec, such as that of the package mpich"),
]

IN_PAIRS = ("numbers", "accumulation", "streams", "random", "root", "checkpoint", "unlike", "memory")


def mpiexec(ranks, *command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        cwd=ROOT,
    )


def work(ranks, folder, *scenarios):
    return mpiexec(ranks, Path(__file__).with_name("parallel_worker.py"), folder / "out.json", folder, *scenarios)


def results(ranks, folder, *scenarios):
    done = work(ranks, folder, *scenarios)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text()) | {"printed": done.stdout}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def pair(folder):
    return results(2, folder, *IN_PAIRS)


@pytest.fixture(scope="module")
def three(pair, folder):
    return results(3, folder, "numbers", "resume")


def check_same(found, tolerance):
    assert found["moved"] > 0.005
    assert found["same_bits_on_all"]
    assert found["sharded_same_bits"]
    assert found["state_same_bits"]
    assert found["difference"] < tolerance
    assert found["history"] < 10 * tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_two_processes_compute_what_one_does(pair, dtype, tolerance):
    check_same(pair["numbers"][dtype], tolerance)


def test_three_processes_compute_what_one_does_sharded_or_not(three):
    check_same(three["numbers"]["float64"], 1e-13)
    check_same(three["numbers"]["float32"], 1e-5)


def test_accumulated_gradients_of_a_sum(pair):
    check_same(pair["accumulation"], 1e-12)


@pytest.mark.parametrize("kind", ["stored", "batches"])
def test_arrays_on_disk_and_iterators(pair, kind):
    check_same(pair["streams"][kind], 1e-13)


def test_dropout_differs_by_rank_and_the_weights_do_not(pair):
    found = pair["random"]
    first, second = found["drawn"]
    assert found["same_bits_on_all"]
    assert found["repeats"]
    assert len(first) == len(second) == 14
    assert not set(first) & set(second)
    assert found["after"][0] == found["after"][1]  # what is drawn after fit is the same again


def test_rank_0_decides_prints_and_writes(pair):
    found = pair["root"]
    assert found["calls"] == [12, 0]
    assert found["epochs"] == [3, 3]
    assert found["rates"] == [0.1 / 3, 0.1 / 3]
    assert found["same_bits_on_all"]
    assert found["lines"] == 4  # the head and three epochs
    assert pair["printed"].count("epoch 3/9") == 1


@pytest.mark.parametrize("kind", ["plain-False", "plain-True", "random-False", "random-True"])
def test_resume_with_as_many_ranks_gives_the_same_bits(pair, kind):
    found = pair["checkpoint"][kind]
    assert found["same_bits"]
    assert found["same_history"]


def test_resume_with_more_ranks_or_with_one(three, folder):
    for found, ranks in ((three["resume"], 3), (results(1, folder, "resume")["resume"], 1)):
        assert found["size"] == ranks
        assert found["difference"] < 1e-13


def test_each_rank_holds_its_slice_of_the_state(pair):
    whole, slices = pair["memory"]
    assert whole == [2 * 8 * 863] * 2  # Adam's two numbers of float64 for each of 863 parameters
    assert slices == [2 * 8 * 448, 2 * 8 * 415]


def test_mistakes_on_all_ranks_and_on_one(pair):
    first, second = pair["unlike"]
    assert first == second
    assert "batch_size must be" in first[0]
    assert "rank 1 has another training than rank 0: there it is epochs=range(0, 2)" in first[1]


def test_an_error_on_one_rank_ends_all(folder):
    done = work(2, folder, "die:raise")
    assert done.returncode != 0
    assert (
        "minidl: rank 1 of 2 failed and the others did not, so all are ended: OSError: the disk is gone" in done.stderr
    )


def test_a_killed_rank_ends_all_and_leaves_checkpoints(folder):
    done = work(2, folder, "die:kill")
    assert done.returncode != 0
    assert [path.name for path in sorted((folder / "kill").iterdir())] == [
        "epoch-00000-step-00000005",
        "epoch-00001-step-00000003",
    ]


def test_command_line(tmp_path):
    saved = tmp_path / "m.safetensors"
    command = (
        "-m",
        "minidl.cli",
        "train",
        "--data",
        "digits",
        "--epochs",
        2,
        "--save",
        saved,
        "--parallel",
        "--sharded",
    )
    done = mpiexec(2, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert done.stdout.count("epoch 2/2") == 1
    assert saved.exists()


def test_command_line_tells_a_mistake_once():
    done = mpiexec(2, "-m", "minidl.cli", "train", "--data", "no.csv", "--parallel")
    assert done.returncode == 2
    assert done.stderr.count("no.csv") == 1
