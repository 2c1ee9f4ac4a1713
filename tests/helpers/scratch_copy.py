"""A copy of the repository in which mutants are planted, compiled and tested."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy

COPIED = ("minidl", "csrc", "tests", "docs", "examples", "benchmarks", "pyproject.toml", "setup.py", "README.md")
COPIED += ("CONTRIBUTING.md",)
MOST_MEMORY = 8 << 30
FLAGS = ["-std=c11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden", "-fPIC"]
FLAGS += ["-pthread", "-w"]
FLAGS += [f"-DNPY_{name}=NPY_2_0_API_VERSION" for name in ("NO_DEPRECATED_API", "TARGET_VERSION")]
COMPILER = os.environ.get("CC", "cc")


class NotBuilt(Exception):
    """A mutant that the compiler refuses."""


class ScratchCopy:
    """A copy of the repository.

    Parameters
    ----------
    root : path
        The repository.
    folder : path
        Where the copy is made.
    limit : float
        Seconds that a run of tests may take.
    """

    def __init__(self, root, folder, limit=120.0):
        self.root, self.folder, self.limit = Path(root), Path(folder), limit
        self.native = None
        self._passing = set()
        for name in COPIED:
            if (self.root / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.o", "native.c")
                shutil.copytree(self.root / name, self.folder / name, ignore=ignored)
            elif (self.root / name).exists():
                shutil.copy2(self.root / name, self.folder / name)

    def run(self, selection, keep_bytecode=False):
        """Run tests until one fails; return "passed", "failed" or "timed out"."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "" if keep_bytecode else "1",
            "OMP_NUM_THREADS": "2",
            "OPENBLAS_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", "--no-header"]
        with subprocess.Popen(
            [*command, *selection],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=bounded,
        ) as process:
            try:
                code = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return "timed out"
        return "passed" if code in (0, 5) else "failed"  # 5: the words of -k name no test

    def build_native(self):
        """Build the extension, so that mutants of C need only what they change."""
        self.native = NativeBuild(self.folder)
        self.native.build()

    def require_passing(self, selection):
        """Raise unless these tests pass without any mutant, because otherwise they prove nothing."""
        key = tuple(selection)
        if key not in self._passing:
            outcome = self.run(selection, keep_bytecode=True)
            if outcome != "passed":
                raise RuntimeError(f"{outcome} without any mutant: pytest {' '.join(selection)}")
            self._passing.add(key)

    @contextlib.contextmanager
    def planted(self, mutant):
        """Have the mutant in the copy, compiled if it is one of C."""
        if mutant.file.startswith("csrc/") and self.native is None:
            self.build_native()
        path = self.folder / mutant.file
        original = path.read_bytes()
        # Bytecode is told apart by the second in which the source was written, which a mutant may share with the original.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
        path.write_bytes(mutant.apply(original))
        try:
            if mutant.file.startswith("csrc/"):
                with self.native.rebuilt(mutant.file):
                    yield
            else:
                yield
        finally:
            path.write_bytes(original)


def bounded():
    """Let a run of tests yield to everything else, and take no more memory than a share."""
    import resource

    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


class NativeBuild:
    """The extension of a copy, built a file at a time: all kernels of the instruction set in use, and what calls them.

    Without optimisation for speed, and with kernels of other instruction sets compiled once. Those are compiled from the same
    lines, so a mutant in the ones in use stands for all.
    """

    def __init__(self, folder):
        self.folder, self.objects = folder, folder / "build" / "mutants"
        self.objects.mkdir(parents=True)
        self.extension = folder / "minidl" / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
        includes = ["csrc", numpy.get_include(), sysconfig.get_path("include")]
        self.includes = [f"-I{path}" for path in includes]
        self.sources = sorted(path.relative_to(folder) for path in (folder / "csrc").rglob("*.c"))
        self.sources += [Path("csrc/bridge/native.c")]
        self._variant = None

    def _run(self, *command):
        done = subprocess.run(
            [str(part) for part in command], cwd=self.folder, capture_output=True, text=True, preexec_fn=bounded
        )
        if done.returncode:
            raise NotBuilt(done.stderr.strip())

    def _compile(self, source, target):
        level = "-O0" if source.name == "native.c" else "-O1"
        self._run(COMPILER, *FLAGS, level, *self.includes, "-MMD", "-c", source, "-o", target)

    def _object(self, source):
        return self.objects / source.relative_to("csrc").with_suffix(".o").as_posix().replace("/", "-")

    def _link(self, objects):
        # Beside it first: the file may be mapped by a process that has just been killed.
        self._run(COMPILER, "-shared", "-pthread", *objects, "-lm", "-o", self.extension.with_suffix(".new"))
        self.extension.with_suffix(".new").replace(self.extension)

    def users(self, file):
        """Return the sources whose objects a change of a file changes, but those of other instruction sets."""
        return [
            source
            for source in self.sources
            if file in self._object(source).with_suffix(".d").read_text(encoding="utf-8").split()
            and (source.parent.name != "isa" or source.stem.startswith(f"{self.variant()}_"))
        ]

    def variant(self):
        """Return the name of the instruction set in use."""
        if self._variant is None:
            code = "import minidl; print(minidl.engines.native.info()['kernels'])"
            self._variant = subprocess.run(
                [sys.executable, "-c", code],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.folder)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        return self._variant

    def build(self):
        """Build everything once, with the original sources."""
        bridge = ["--module-name", "minidl._native", "csrc/bridge/native.pyx", "-I", "csrc"]
        self._run(sys.executable, "-m", "cython", *bridge)
        self.compile_all()
        self._link([self._object(source) for source in self.sources])

    def compile_all(self):
        """Compile the original sources."""
        for source in self.sources:
            self._compile(source, self._object(source))

    @contextlib.contextmanager
    def rebuilt(self, file):
        """Have the extension built with the file as it is now; afterwards as it was."""
        changed = {source: self._object(source).with_suffix(".mutant.o") for source in self.users(file)}
        if not changed:
            raise NotBuilt(f"{file} is not compiled on this machine")
        kept = self.extension.with_suffix(".kept")
        for source, target in changed.items():
            self._compile(source, target)
        shutil.copy2(self.extension, kept)
        try:
            self._link([changed.get(source, self._object(source)) for source in self.sources])
            yield
        finally:
            kept.replace(self.extension)
