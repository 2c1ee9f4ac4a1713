"""Write down what the installed CuPy offers: names, kinds and signatures, as ../cupy_surface.json.

The array double knows CuPy only by that file, so the tests need no CuPy. Run again when the supported version moves:

    python tests/helpers/make_cupy_surface.py            # writes the file
    python tests/helpers/make_cupy_surface.py --check    # says whether it is current

CuPy can be imported, and looked at, without a GPU.
"""

import argparse
import inspect
import json
import re
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "cupy_surface.json"
MODULES = ("cupy", "cupy.linalg", "cupy.random", "cupy.fft", "cupy.cuda")
CLASSES = ("cuda.Device", "cuda.Event", "cuda.Graph", "cuda.Stream")
HEADER = re.compile(r"^[\w.]+\((?P<parameters>.*?)\)(?:\s*->.*)?$", re.DOTALL)


def surface():
    """Return everything as one JSON-able dictionary."""
    import cupy

    found = {"version": cupy.__version__}
    for path in MODULES:
        module = getattr(cupy, path.partition(".")[2]) if "." in path else cupy
        found[path] = {name: described(getattr(module, name), cupy) for name in public(module)}
    for path in CLASSES:
        kind = getattr(cupy.cuda, path.removeprefix("cuda."))
        found[f"cupy.{path}"] = {name: member(kind, name) for name in public(kind)}
    found["ndarray"] = {name: member(cupy.ndarray, name) for name in public(cupy.ndarray)}
    found["ndarray_special"] = sorted(
        name for name in dir(cupy.ndarray) if name.startswith("__") and not hasattr(object, name)
    )
    found["ufunc"] = public(cupy.ufunc)
    return found


def public(thing):
    return sorted(name for name in dir(thing) if not name.startswith("_"))


def described(value, cupy):
    """Return [kind] or [kind, signature]."""
    if inspect.ismodule(value):
        return ["module"]
    if isinstance(value, type):
        return ["type"]
    if isinstance(value, cupy.ufunc) or type(value).__name__ == "_GUFunc":
        return ["ufunc", signature(value)]
    if callable(value):
        return ["function", signature(value)]
    return ["constant"]


def member(kind, name):
    value = inspect.getattr_static(kind, name)
    if inspect.isgetsetdescriptor(value) or isinstance(value, property):
        return ["property"]
    return ["method", signature(getattr(kind, name), skip_self=True)]


def signature(function, skip_self=False):
    """Return the parameters as a string such as "a, axis=, *, out=", or None if nothing tells."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
        text = spelled(parameters)
    except (TypeError, ValueError):  # compiled: the first line of its documentation has it
        text = from_documentation(function.__doc__ or "")
    if text is not None and skip_self:
        text = re.sub(r"^self(, )?", "", text)
    return text


def spelled(parameters):
    words, kinds = [], [p.kind for p in parameters]
    for i, p in enumerate(parameters):
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        if p.kind is p.KEYWORD_ONLY and p.KEYWORD_ONLY not in kinds[:i] and p.VAR_POSITIONAL not in kinds[:i]:
            words.append("*")
        words.append(star + p.name + ("" if p.default is p.empty else "="))
        if p.kind is p.POSITIONAL_ONLY and p.POSITIONAL_ONLY not in kinds[i + 1 :]:
            words.append("/")
    return ", ".join(words)


def from_documentation(text):
    header = HEADER.match(text.strip().split("\n\n")[0].replace("\\", "").replace("\n", " "))
    if header is None:
        return None
    words = []
    for word in split(header["parameters"]):
        name, equals, _ = word.partition("=")
        words.append(name.split()[-1] + equals)  # "int axis=-1" is Cython's way to say axis=-1
    return ", ".join(words)


def split(text):
    """Split at the commas that are not inside brackets."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def dumped(found):
    """Return JSON with one name a line, so that a change of version can be read in the difference."""
    tables = {key: value for key, value in found.items() if isinstance(value, dict)}
    lines = [f"{json.dumps(name)}: {{\n{table(entries)}\n }}" for name, entries in tables.items()]
    rest = {key: value for key, value in found.items() if key not in tables}
    return (
        "{\n " + ",\n ".join([f"{json.dumps(key)}: {json.dumps(rest[key])}" for key in sorted(rest)] + lines) + "\n}\n"
    )


def table(entries):
    return ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the file is current")
    if parser.parse_args().check:
        sys.exit(0 if json.loads(TARGET.read_text()) == surface() else f"{TARGET.name} is not of the installed CuPy")
    TARGET.write_text(dumped(surface()))


if __name__ == "__main__":
    main()
