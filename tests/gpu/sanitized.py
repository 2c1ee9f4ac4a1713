"""Run every family once in the flavour for AddressSanitizer; a Python with LD_PRELOAD=libasan.so starts it.

With the argument "planted", run a kernel that writes one element too many: the sanitizer must end the process.
"""

import sys

import emulation
from families import FAMILIES
from family import disagreements

PLANTED = ("elementwise/activations.cu", "one element too many")


def planted_changes():
    family = FAMILIES[PLANTED[0]]
    return (*family.kernels, *family.planted[PLANTED[1]])


def main():
    if sys.argv[1:] == ["planted"]:
        with emulation.emulating("address", changes={PLANTED[0]: planted_changes()}):
            disagreements(FAMILIES[PLANTED[0]], "float32", few=True)
        return
    for file, family in sorted(FAMILIES.items()):
        with emulation.emulating("address"):
            found = disagreements(family, "float32", sizes=("empty", "one", "odd"))
        if found:
            sys.exit("\n".join(found))
        print(file)


if __name__ == "__main__":
    main()
