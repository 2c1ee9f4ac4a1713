"""The Python blocks of a page: run them, and compare what they print with what their comments promise."""

import contextlib
import io
import re


def blocks(page):
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def promised(block):
    """Return the output that a block promises: the comments behind its prints, and comments that have lines of their own."""
    found = []
    for line in block.splitlines():
        if line.lstrip().startswith("print("):
            found.append(line.rpartition("  # ")[2])
        elif line.startswith("# "):
            found.append(line[2:])
    return " ".join(" ".join(found).split())


def output(block, names):
    """Run a block in a namespace; return what it prints and the error that it ends with, as one line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(block, "page", "exec"), names)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return " ".join(printed.getvalue().split())
