"""Run every family once in the flavour for AddressSanitizer; a Python with LD_PRELOAD=libasan.so starts it."""

import sys

import emulation
from families import FAMILIES
from family import disagreements

for file, family in sorted(FAMILIES.items()):
    with emulation.emulating("address"):
        found = disagreements(family, "float32", sizes=("empty", "one", "odd"))
    if found:
        sys.exit("\n".join(found))
    print(file)
