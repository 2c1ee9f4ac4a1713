"""Mutation testing: change one small thing of the package, run the tests that should notice, and count.

    python tests/mutation.py --sample 200 --seed 0
    python tests/mutation.py --sample 20 --only c
    python tests/mutation.py --sample 50 --file minidl/ops/norm.py

Mutants are drawn from the formulas (minidl/ops), from layers, optimisers and training, and from the C kernels; the same
seed draws the same ones. They live in a copy of the repository in a temporary folder. Each is killed by a failing test,
or by one that does not end in time, or it survives: then a test is missing, or the mutant is equivalent to the original.
Equivalent ones are listed in tests/mutants_equivalent.toml, each with the reason. Exits with 1 if any other survives.
"""

import argparse
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT)]

from draw_mutants import mutants_of  # noqa: E402
from mutant_tests import selections  # noqa: E402
from scratch_copy import NotBuilt, ScratchCopy  # noqa: E402

KINDS = {
    "formulas": ["minidl/ops/*.py"],
    "layers": ["minidl/layers/**/*.py", "minidl/optim/*.py", "minidl/training/*.py"],
    "c": ["csrc/**/*.c", "csrc/**/*.h"],
}
SHARES = {"formulas": 0.5, "layers": 0.4, "c": 0.1}  # a mutant of C is compiled, so there are few
NOT_DRAWN = {
    "csrc/product/ladder.c": "it explains, and computes nothing of the package",
    "csrc/product/ladder.h": "it explains, and computes nothing of the package",
    "csrc/conv/conv_costs.h": "it says which of several ways to the same result is faster",
    "csrc/product/gemm_plan.inc.h": "it says which of several ways to the same result is faster",
    "csrc/bridge/native.c": "Cython's output",
    **dict.fromkeys((f"csrc/vector/simd_{isa}.h" for isa in ("avx2", "neon", "scalar", "sse2")), "other instructions"),
    **dict.fromkeys((path.relative_to(ROOT).as_posix() for path in ROOT.glob("csrc/isa/*")), "no code but names"),
}
EQUIVALENT = ROOT / "tests" / "mutants_equivalent.toml"
OUTCOMES = ("killed", "timed out", "survived", "equivalent", "not built")


def files_of(kind, root=ROOT):
    """Return the files that mutants of a kind are drawn from."""
    found = {path.relative_to(root).as_posix() for pattern in KINDS[kind] for path in root.glob(pattern)}
    return sorted(found - set(NOT_DRAWN))


def draw(files, count, seed, root=ROOT):
    """Return some mutants of the files, the same for the same seed."""
    every = [mutant for file in files for mutant in mutants_of(root, file)]
    return sorted(every, key=lambda mutant: mutant.rank(seed))[:count]


def known_equivalent(path=EQUIVALENT):
    """Return the table of mutants that no test can tell from the original."""
    return tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]


def matches(entry, mutant):
    """Whether an entry of the table is about a mutant."""
    if not re.fullmatch(entry.get("file", ".*"), mutant.file) or entry.get("where", mutant.where) != mutant.where:
        return False
    return mutant.change == entry["change"] if "change" in entry else bool(re.search(entry["pattern"], mutant.change))


def judge(mutant, copy, table):
    """Return what becomes of a mutant, one of OUTCOMES, and the reason or the tests that decided."""
    for entry in table:
        if matches(entry, mutant):
            return "equivalent", entry["reason"]
    decided = None
    try:
        with copy.planted(mutant):
            for selection in selections(mutant):
                outcome = copy.run(selection)
                if outcome != "passed":
                    decided = selection
                    break
    except NotBuilt as problem:
        return "not built", str(problem).splitlines()[0]
    if decided is None:
        return "survived", ""
    copy.require_passing(decided)
    return ("killed" if outcome == "failed" else outcome), f"pytest {' '.join(decided)}"


def score(outcomes):
    """Return the share of mutants that were noticed, of those that a test can notice."""
    noticed = outcomes.count("killed") + outcomes.count("timed out")
    return noticed / max(noticed + outcomes.count("survived"), 1)


def arguments(given=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=50, help="how many mutants (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--only", choices=KINDS, help="mutants of one kind")
    parser.add_argument("--file", help="mutants of one file")
    parser.add_argument("--match", default="", help="mutants whose description contains this text")
    parser.add_argument("--limit", type=float, default=180, help="seconds for a run of tests (default: 180)")
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    return parser.parse_args(given)


def drawn(options):
    """Return the mutants that the command line asks for, by kind."""
    kinds = [options.only] if options.only else list(KINDS)
    if options.file:
        kinds = [kind for kind in KINDS if options.file in files_of(kind)]
        if not kinds:
            raise SystemExit(f"no mutants are drawn from {options.file}")
    found = {}
    for kind in kinds:
        files = [options.file] if options.file else files_of(kind)
        count = options.sample if len(kinds) == 1 else round(options.sample * SHARES[kind])
        every = draw(files, None, options.seed)
        found[kind] = [mutant for mutant in every if options.match in str(mutant)][:count]
    return found


def main(given=None):
    """Draw mutants, judge them, print the score; return the exit status."""
    options = arguments(given)
    mutants, table = drawn(options), known_equivalent()
    total = sum(map(len, mutants.values()))
    if options.list:
        for kind in mutants:
            print(*mutants[kind], sep="\n")
        return 0
    outcomes, survivors, done = {}, [], 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = ScratchCopy(ROOT, folder, options.limit)
        if mutants.get("c"):
            copy.build_native()
        for kind in mutants:
            outcomes[kind] = []
            for mutant in mutants[kind]:
                started = time.perf_counter()
                outcome, _ = judge(mutant, copy, table)
                outcomes[kind].append(outcome)
                survivors += [mutant] if outcome == "survived" else []
                done += 1
                seconds = time.perf_counter() - started
                print(f"{done:4}/{total} {outcome:10} {seconds:5.1f} s  {mutant}", flush=True)
    print(f"\n{'':9}{'drawn':>7}" + "".join(f"{name:>12}" for name in OUTCOMES) + f"{'score':>9}")
    outcomes["all"] = [outcome for found in outcomes.values() for outcome in found]
    for kind, found in outcomes.items():
        counts = "".join(f"{found.count(name):12}" for name in OUTCOMES)
        print(f"{kind:9}{len(found):7}{counts}{score(found):9.1%}")
    if survivors:
        print("\nsurvived:", *(f"  {mutant}" for mutant in survivors), sep="\n")
    return bool(survivors)


if __name__ == "__main__":
    raise SystemExit(main())
