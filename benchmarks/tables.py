"""What reading a CSV file costs: minidl's read_csv, pandas and both together, each in a process of its own.

    python benchmarks/tables.py [numbers|digits|mixed]

``numbers`` has 250,000 rows of 20 numbers with six decimals (47 MB), ``digits`` 120,000 with all their digits (47 MB), ``mixed``
250,000 rows of 12 numbers and 4 texts (33 MB). Seconds are the best of three; memory is the peak of the process, its imports
included.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

READERS = {
    "read_csv": "import minidl; minidl.data.read_csv\ndef read(path): return minidl.data.read_csv(path).X",
    "pandas.read_csv": "import pandas\ndef read(path): return pandas.read_csv(path)",
    "from_frame(pandas.read_csv)": "import pandas; from minidl.interop.frames import from_frame\n"
    "def read(path): return from_frame(pandas.read_csv(path)).X",
}
CHILD = """
import resource, sys, time
begin = time.perf_counter()
shape = read(sys.argv[1]).shape
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(f"{seconds} {peak}")
"""


def write(path: Path, kind: str) -> None:
    random = numpy.random.default_rng(0)
    rows = random.normal(size=(120_000 if kind == "digits" else 250_000, 12 if kind == "mixed" else 20))
    cities = random.choice(["Lima", "Oslo", "Paris", "Rome"], (len(rows), 4 if kind == "mixed" else 0))
    with path.open("w") as file:
        file.write(",".join(f"x{k}" for k in range(rows.shape[1] + cities.shape[1])) + "\n")
        for numbers, texts in zip(rows if kind == "digits" else rows.round(6), cities, strict=True):
            file.write(",".join([*map(repr, numbers.tolist()), *texts]) + "\n")


def main() -> None:
    for kind in sys.argv[1:] or ("numbers", "digits", "mixed"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            write(path, kind)
            print(f"{kind}, {path.stat().st_size / 1e6:.0f} MB")
            found: dict[str, list[list[float]]] = {name: [] for name in READERS}
            for _ in range(3):
                for name, code in READERS.items():
                    call = [sys.executable, "-c", code + CHILD, str(path)]
                    done = subprocess.run(call, capture_output=True, text=True, check=True)
                    found[name].append([float(part) for part in done.stdout.split()])
            for name, runs in found.items():
                print(f"  {name:28} {min(run[0] for run in runs):5.2f} s  {min(run[1] for run in runs):4.0f} MB")


if __name__ == "__main__":
    main()
