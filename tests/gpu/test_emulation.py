"""Rung d: every CUDA kernel run on the CPU, thread by thread, through the wrappers that a GPU would use.

This is emulation: it proves the logic of the kernels and of the code that launches them, not that a GPU computes the same.
"""

import os
import subprocess
import sys
from pathlib import Path

import building
import emulation
import numpy
import pytest
import sanitized
from families import FAMILIES
from family import EMULATED, disagreements
from special_values import check_special_values_everywhere

from minidl.engines.cuda import source
from minidl.testing import SPECS
from minidl.testing.catalogue import check_case

pytestmark = [pytest.mark.gpu_emulate, pytest.mark.usefixtures("cpp")]

DTYPES = tuple(source.DTYPES)
SMALL = ("empty", "one", "odd")
ALL = [pytest.param(family, id=file) for file, family in FAMILIES.items()]


@pytest.fixture(scope="module", autouse=True)
def compiled(cpp):
    """Compile all at once, on all cores."""
    flavours = ("plain", "checked")
    emulation.compile_all([(file, dtype, flavour, ()) for flavour in flavours for file in FAMILIES for dtype in DTYPES])


def test_every_source_has_an_entry():
    assert set(FAMILIES) == set(source.files())


def test_every_kernel_is_read_from_the_source():
    """The names that are exported are those of all global functions, also those that macros make."""
    for file in FAMILIES:
        names = emulation.library(file, "float32").names
        assert len(set(names)) == len(names) > 0
    assert "mish_backward" in emulation.library("elementwise/activations.cu", "float32").names


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ALL)
def test_agreement_with_the_formulas(family, dtype):
    with emulation.emulating():
        assert disagreements(family, dtype) == []


@pytest.mark.parametrize("family", ALL)
def test_gradients_by_differences(family):
    with emulation.emulating():
        for op in family.ops:
            for case in SPECS[op].cases if op in SPECS else ():
                check_case(EMULATED, SPECS[op], case).check()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", ALL)
def test_nan_and_inf_as_in_the_formulas(family, dtype):
    with emulation.emulating():
        for op in family.ops:
            if op in SPECS:
                check_special_values_everywhere(EMULATED, SPECS[op], dtype)


@pytest.mark.parametrize("schedule", emulation.SCHEDULES)
@pytest.mark.parametrize("family", ALL)
def test_memory_is_accessed_rightly(family, schedule):
    """Bounds, races, alignment, shared memory that nobody wrote; see emulator.cpp."""
    dtypes = DTYPES if schedule == "fair" else ["float32"]
    with emulation.emulating("checked", emulation.SCHEDULES[schedule]):
        for dtype in dtypes:
            assert disagreements(family, dtype, sizes=SMALL) == []


@pytest.mark.parametrize("family", ALL)
def test_every_schedule_gives_the_same_bits(family):
    results = []
    for schedule in emulation.SCHEDULES.values():
        with emulation.emulating(schedule=schedule):
            results.append(_bits(family))
    assert all(result == results[0] for result in results[1:])


def _bits(family):
    """Return everything that the kernels write, in the order in which they are launched."""
    written, run = [], source.launcher.get()

    def launch(*call):
        run(*call)
        written.extend(value.tobytes() for value in call[5] if isinstance(value, numpy.ndarray))

    token = source.launcher.set(launch)
    try:
        disagreements(family, "float32", sizes=("odd",))
    finally:
        source.launcher.reset(token)
    return written


@pytest.mark.parametrize("family", ALL)
def test_every_kernel_was_run(family):
    """After the tests above; alone, this test has nothing to look at."""
    ran = {kernel for file, kernel, _, flavour in emulation.LAUNCHED if file == family.file and flavour == "checked"}
    if not ran:
        pytest.skip("the tests of agreement did not run before")
    assert set(emulation.library(family.file, "float32").names) == ran


# planted bugs ---------------------------------------------------------------------------------------------------------------

PLANTED = [(family, bug) for family in FAMILIES.values() for bug in family.planted]


def test_every_family_has_planted_bugs():
    assert [file for file, family in FAMILIES.items() if len(family.planted) < 4] == []


@pytest.fixture(scope="module")
def planted_compiled(compiled):
    emulation.compile_all([(f.file, "float32", "checked", (*f.kernels, *f.planted[bug])) for f, bug in PLANTED])


@pytest.mark.parametrize("family", ALL)
def test_without_bugs_the_checks_are_silent(family):
    with emulation.emulating("checked", changes={family.file: family.kernels}):
        assert disagreements(family, "float32", few=True) == []


@pytest.mark.usefixtures("planted_compiled")
@pytest.mark.parametrize(("family", "bug"), [pytest.param(f, bug, id=f"{f.file}: {bug}") for f, bug in PLANTED])
def test_a_planted_bug_is_caught(family, bug):
    caught = ""
    for schedule in (emulation.SCHEDULES["fair"], emulation.SCHEDULES["unfair"]):
        with emulation.emulating("checked", schedule, {family.file: (*family.kernels, *family.planted[bug])}):
            try:
                found = disagreements(family, "float32", few=True)
                caught = found[0] if found else ""
            except emulation.EmulationError as error:
                caught = str(error)
        if caught:
            break
    assert caught, f"nothing noticed the planted bug: {bug}"
    print(f"{bug}: {caught}")


# AddressSanitizer -----------------------------------------------------------------------------------------------------------


def test_address_and_undefined_behaviour_sanitizers():
    """The same cases once more in a Python with the sanitizers, which abort at the first report."""
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        path = subprocess.run(
            [building.compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True
        )
        if not Path(path.stdout.strip()).is_absolute():
            pytest.skip(f"g++ has no {name}")
        libraries.append(path.stdout.strip())
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "MINIDL_EMULATION_CACHE": str(building.folder()),
    }
    sources = [(file, "float32", "address", ()) for file in FAMILIES]
    emulation.compile_all([*sources, (sanitized.PLANTED[0], "float32", "address", sanitized.planted_changes())])
    done = _run_sanitized(environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert done.stdout.split() == sorted(FAMILIES)
    done = _run_sanitized(environment, "planted")
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr


def _run_sanitized(environment, *arguments):
    return subprocess.run(
        [sys.executable, sanitized.__file__, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
