"""Options and fixtures that all tests share.

--nightly               run the tests marked nightly too, and let Hypothesis draw many more examples, new ones each time
--gpu-proof             compile the CUDA kernels and run them on the CPU, as docs/gpu_kernels.md says
--require-engine=NAME   fail instead of skipping where the engine NAME is missing
"""

import numpy
import pytest
from engine_choice import engine_named, usable

from minidl import engines, random
from minidl.ops import _dispatch

pytest_plugins = ["ladder"]


def pytest_addoption(parser):
    group = parser.getgroup("minidl")
    group.addoption("--nightly", action="store_true", help="run the slow, wide checks too")
    group.addoption("--gpu-proof", action="store_true", help="compile the CUDA kernels and run them on the CPU")
    group.addoption(
        "--require-engine",
        action="append",
        default=[],
        choices=engines.NAMES,
        help="fail where this engine is missing, instead of skipping",
    )


def pytest_configure(config):
    config.stash[AGREEMENT] = {}
    try:
        from hypothesis import HealthCheck, settings
    except ImportError:  # the tests that need it say so themselves
        return
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    settings.register_profile("default", derandomize=True, deadline=None, max_examples=25, database=None)
    settings.register_profile("nightly", deadline=None, max_examples=1000, suppress_health_check=quiet)
    settings.load_profile("nightly" if config.getoption("--nightly") else "default")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--gpu-proof"):
        _leave_out_gpu_proof(config, items)
    if config.getoption("--nightly"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="slow; runs with --nightly"))


GPU_PROOF = ("gpu_compile", "gpu_emulate", "gpu_cupy")


def _leave_out_gpu_proof(config, items):
    """Keep one test of each module that needs --gpu-proof, as a visible skip, and deselect the others."""
    kept, left_out, modules = [], [], set()
    for item in items:
        if not any(item.get_closest_marker(name) for name in GPU_PROOF):
            kept.append(item)
        elif item.path in modules:
            left_out.append(item)
        else:
            modules.add(item.path)
            item.add_marker(pytest.mark.skip(reason="minutes of compiling and emulating CUDA; runs with --gpu-proof"))
            kept.append(item)
    items[:] = kept
    if left_out:
        config.hook.pytest_deselected(items=left_out)


# engines ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=usable())
def engine(request):
    """Each engine that works here, and the array double in CuPy's place; one test tells which do not work, and why."""
    return engine_named(request.param)


@pytest.fixture(scope="session", params=usable(on_host=True))
def host_engine(request):
    """Each engine whose arrays are NumPy's."""
    return engine_named(request.param)


@pytest.fixture(autouse=True)
def own_engine_and_chance():
    """Start each test with the default engine and the same seed, and undo what it changes."""
    engine = _dispatch.current.set(_dispatch.active())
    generator = random._generator.set(numpy.random.default_rng(0))
    yield
    _dispatch.current.reset(engine)
    random._generator.reset(generator)


# how close the engines come -----------------------------------------------------------------------------------------

AGREEMENT = pytest.StashKey()


@pytest.fixture
def agree(request):
    """Assert that all rows of a comparison passed, and remember how much of the tolerance they used."""

    def assert_all(rows):
        worst = request.config.stash[AGREEMENT]
        for row in rows:
            assert row.ok, row.sentence()
            key = row.engine, row.dtype
            if key not in worst or row.used > worst[key][0]:
                worst[key] = row.used, f"{row.argument} of {row.op}"

    return assert_all


def pytest_terminal_summary(terminalreporter, config):
    worst = config.stash[AGREEMENT]
    if not worst:
        return
    terminalreporter.section("agreement of the engines with the formulas")
    for (engine, dtype), (used, where) in sorted(worst.items()):
        terminalreporter.line(f"{engine or 'oracle':8} {dtype:8} worst use of the tolerance {used:6.1%}: {where}")
