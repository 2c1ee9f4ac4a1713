"""Write what the CUDA kernels take of a GPU into docs/gpu_kernels.md: registers, shared memory, spilled bytes.

    python docs/gpu_resources.py            compile every source with NVRTC and write the table
    python docs/gpu_resources.py --check    compile, and fail if the table is not what it would be

NVRTC comes with the extra "peers". Another version of it counts other registers, so a table of another version is only checked for
its kernels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "gpu")]

import nvrtc  # noqa: E402

from minidl.engines.cuda import source  # noqa: E402

PAGE = ROOT / "docs" / "gpu_kernels.md"
BEGIN, END = "<!-- begin of the table of resources -->\n", "<!-- end of the table of resources -->\n"
CHECKED_BY_DTYPE = (75, 90)
"""The architectures for which every dtype is compiled; float32 is for all of them."""

Key = tuple[str, str, int]


class Compiled:
    """What is kept of one compilation; across runs where MINIDL_EMULATION_CACHE names a folder."""

    def __init__(self, file: str, dtype: str, arch: int) -> None:
        options = (*source.options(dtype), f"-arch=sm_{arch}", "--ptxas-options=-v")
        text = f'#line 1 "{file}"\n{source.read(file)}'
        kept = os.environ.get("MINIDL_EMULATION_CACHE")
        digest = hashlib.sha256("\0".join((text, *options, str(nvrtc.version()))).encode()).hexdigest()[:20]
        path = Path(kept, f"resources-{digest}.json") if kept else None
        if path and path.exists():
            self.status, self.log = json.loads(path.read_text())
        else:
            program = nvrtc.Program(text, *options, name=file)
            self.status, self.log = program.status, program.log
            if path:
                path.write_text(json.dumps([self.status, self.log]))
        self.resources = nvrtc.resources(self.log) if self.status == 0 else {}


def compiled() -> dict[Key, Compiled]:
    """Compile every source for every architecture that this NVRTC knows."""
    wanted = [
        (file, dtype, arch)
        for file in source.files()
        for arch in nvrtc.architectures()
        for dtype in source.DTYPES
        if dtype == "float32" or arch in CHECKED_BY_DTYPE
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(lambda key: Compiled(*key), wanted), strict=True))


def _group(kernel: str, kernels: list[str]) -> str:
    """Return the name under which a kernel is listed: those that one macro makes for each activation together."""
    ending = kernel.rsplit("_", 1)[-1]
    alike = [other for other in kernels if other.endswith(f"_{ending}")]
    return f"(activation)_{ending}" if len(alike) > 8 else kernel


def _span(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def current_table(found: dict[Key, Compiled]) -> str:
    """Return the table: for each kernel, over all architectures, what a thread and a block take."""
    major, minor = nvrtc.version()
    named = ", ".join(f"sm_{arch}" for arch in nvrtc.architectures())
    lines = [
        f"NVRTC {major}.{minor}, for {named};",
        f"float16 and float64 for {' and '.join(f'sm_{arch}' for arch in CHECKED_BY_DTYPE)} only. Registers are a thread's,",
        "shared memory and what is spilled are bytes.",
        "",
        "| source | kernel | registers, float32 | float64 | shared memory, float32 | spilled |",
        "|---|---|---|---|---|---|",
    ]
    for file in source.files():
        kernels = sorted(next(iter(v.resources for k, v in found.items() if k[0] == file)))
        groups: dict[str, dict[str, list[Any]]] = {}
        for (other, dtype, _), program in sorted(found.items()):
            if other == file:
                for kernel, used in program.resources.items():
                    groups.setdefault(_group(kernel, kernels), {}).setdefault(dtype, []).append(used)
        for group, by_dtype in sorted(groups.items()):
            registers = [_span([used.registers for used in by_dtype[dtype]]) for dtype in ("float32", "float64")]
            shared = _span([used.shared for used in by_dtype["float32"]])
            spilled = max(used.spilled for all_used in by_dtype.values() for used in all_used)
            lines.append(f"| {file} | {group} | {registers[0]} | {registers[1]} | {shared} | {spilled} |")
    return "\n".join(lines) + "\n"


def is_current(found: dict[Key, Compiled]) -> bool:
    """Whether the page has the table; of another NVRTC, whether it has the same kernels."""
    text = PAGE.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        return False
    there, wanted = text.split(BEGIN)[1].split(END)[0].strip(), current_table(found).strip()
    if there.split(",")[0] == wanted.split(",")[0]:
        return there == wanted
    rows = [re.findall(r"^\| (\S+\.cu) \| (\S+)", table, re.MULTILINE) for table in (there, wanted)]
    return rows[0] == rows[1]


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is not current")
    check = parser.parse_args().check
    if nvrtc.find_nvrtc() is None:
        sys.exit(nvrtc.MISSING)
    found = compiled()
    if check:
        sys.exit(0 if is_current(found) else "docs/gpu_kernels.md: run python docs/gpu_resources.py")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{current_table(found)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
