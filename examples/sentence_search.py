"""Find the lines of Shakespeare's sonnets that mean what a sentence means, with the published weights of MiniLM.

    python examples/sentence_search.py FOLDER ["a query" ...]

FOLDER holds config.json, model.safetensors and tokenizer.json of all-MiniLM-L6-v2; needs the extra weights. Without a query
it looks for "growing old" and "I cannot sleep at night".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from minidl import text
from minidl.models import from_pretrained

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("folder", type=Path, metavar="FOLDER")
parser.add_argument("queries", nargs="*", default=["growing old", "I cannot sleep at night"])
args = parser.parse_args()

model, tokenizer = from_pretrained(args.folder), text.load_tokenizer(args.folder / "tokenizer.json")
lines = [line.strip() for line in text.sonnets().splitlines() if len(line) > 20][:200]
corpus = text.embed(model, tokenizer, lines)  # (M, C)
scores, indices = text.search(text.embed(model, tokenizer, args.queries), corpus, k=3)
for query, row, best in zip(args.queries, scores, indices, strict=True):
    print(query)
    for score, index in zip(row, best, strict=True):
        print(f"  {score:.3f}  {lines[index]}")
