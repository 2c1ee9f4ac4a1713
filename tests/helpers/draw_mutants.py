"""Small changes of source files, as a slip of the pen would make them: all of a file's, in a fixed order.

A change of Python is found in the syntax tree, a change of C in the text. Both are made in the text, so that everything
else of the file stays as it is.
"""

import ast
import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from minidl.testing import mutants as slips


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes
    ----------
    file : str
        Relative to the repository.
    line : int
    where : str
        The function that is changed, as far as it is known.
    change : str
        ``old -> new``.
    start, end : int
        The bytes of the file that are replaced.
    new : str
    number : int
        Tells changes that read alike in one function apart.
    """

    file: str
    line: int
    where: str
    change: str
    start: int
    end: int
    new: str
    number: int = 0

    def __str__(self):
        change = " ".join(self.change.split())
        return f"{self.file}:{self.line} {self.where}: {change if len(change) < 160 else change[:157] + '...'}"

    def rank(self, seed):
        """Return this mutant's place in a random order, which changes of other functions do not touch."""
        key = f"{seed} {self.file} {self.where} {self.change} {self.number}"
        return hashlib.sha256(key.encode()).hexdigest()

    def apply(self, source):
        """Return the changed bytes of the file."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def numbered(found):
    """Yield mutants with different numbers where they read alike."""
    seen = {}
    for mutant in found:
        key = mutant.where, mutant.change
        seen[key] = seen.get(key, -1) + 1
        yield replace(mutant, number=seen[key])


def mutants_of(root, file):
    """Return all mutants of a file."""
    source = (Path(root) / file).read_bytes()
    return list(numbered(python_mutants(file, source) if file.endswith(".py") else c_mutants(file, source.decode())))


# Python ---------------------------------------------------------------------------------------------------------------

BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITE = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
KEPT_DECORATORS = {"overload", "abstractmethod", "dataclass"}


def python_mutants(file, source):
    """Yield the mutants of a Python file."""
    starts, lines = [0], source.splitlines(keepends=True)
    for line in lines:
        starts.append(starts[-1] + len(line))

    def mutant(node, where, new):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        shown = new if isinstance(new, str) else ast.unparse(new)
        written = f"({shown})" if isinstance(new, ast.expr) else shown
        if isinstance(node, ast.Constant):  # which 1 of all of them: say the line
            line = lines[node.lineno - 1]
            change = f"{line.strip().decode()} -> "
            change += (line[: node.col_offset] + shown.encode() + line[node.end_col_offset :]).strip().decode()
        else:
            change = f"{ast.unparse(node).splitlines()[0]} -> {shown}"
        return Mutant(file, node.lineno, where, change, start, end, written)

    for node, where in python_nodes(ast.parse(source)):
        if isinstance(node, ast.stmt):
            if is_droppable(node):
                yield mutant(node, where, "pass")
            if isinstance(node, ast.AugAssign) and type(node.op) in slips._SWAPPED:
                yield from (mutant(node, where, new) for new in slips._replacements(node))
            for decorator in getattr(node, "decorator_list", ()):
                if ast.unparse(decorator).split("(")[0].rpartition(".")[2] not in KEPT_DECORATORS:
                    dropped = mutant(decorator, where, "(lambda it: it)")
                    yield replace(dropped, change=f"@{ast.unparse(decorator)} -> nothing")
        else:
            yield from (mutant(node, where, new) for new in other_expressions(node))


def python_nodes(node, where="module"):
    """Yield the statements and expressions that may be changed, each with the name of its function."""
    for child in ast.iter_child_nodes(node):
        if is_left_alone(child):
            continue
        scope = where
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            scope = child.name if where == "module" else f"{where}.{child.name}"
        if isinstance(child, (ast.stmt, ast.expr)):
            yield child, scope
        if isinstance(child, ast.FunctionDef):
            for part in [*child.args.defaults, *filter(None, child.args.kw_defaults)]:
                yield part, scope
                yield from python_nodes(part, scope)
            yield from python_nodes(ast.Module(child.body, []), scope)
        elif isinstance(child, ast.AnnAssign):
            if child.value is not None:
                yield child.value, scope
                yield from python_nodes(child.value, scope)
        else:
            yield from python_nodes(child, scope)


def is_left_alone(node):
    """Whether a node is no code that computes: messages, imports, names for type checkers, docstrings."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert))


def is_droppable(node):
    """Whether the program still runs without this statement: calls, checks, changes of something that is there."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets)
    return isinstance(node, (ast.AugAssign, ast.If)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )


def other_expressions(node):
    """Yield what could stand in an expression's place."""
    if slips._is_changeable(node):
        yield from slips._replacements(node)
    if isinstance(node, ast.Compare):
        other = {**BOUNDARY, **OPPOSITE}.get(type(node.ops[0]))
        if other:
            yield ast.Compare(node.left, [other(), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Call):
        for i in range(len(node.keywords)):
            yield ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])
        several = len(node.args) >= 2 and ast.unparse(node.func) not in ("isinstance", "hasattr", "getattr", "setattr")
        if several and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
            yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
        elif isinstance(node.value, float):
            yield ast.Constant(node.value * 1.1 if node.value else 1.0)


# C --------------------------------------------------------------------------------------------------------------------

SWAPS = [
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " / "),
    (r" / ", " * "),
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r" \+= ", " -= "),
    (r" \+= ", " = "),
    (r"(?<=\w)\[\w+\]", lambda m: f"{m[:-1]} + 1]"),
    (r"(?<![\w.])\d+(?![\w.])", lambda m: str(int(m) + 1)),
    (r"(?<![\w.])\d+\.\d+(?![\w.])", lambda m: repr(float(m) * 1.1 if float(m) else 1.0)),
]
AROUND = 24
"""Characters before and after a change that are shown."""

STATEMENT = re.compile(r"^\s*(?:\*?[\w.\->]+(?:\[[^\]]*\])* (?:[-+*|&]?=) .*|(?!return|free)\w+\(.*\));$")
NAME = re.compile(r"^(?:#define (\w+)|\w[\w *]*?(?:REAL\((\w+)\)|\b(\w+))\()")
SKIPPED = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\n])*\"|'(?:\\.|[^'\n])*'", re.DOTALL)


def c_mutants(file, text):
    """Yield the mutants of a C file: outside comments, strings and the preprocessor's own lines."""
    code = SKIPPED.sub(lambda match: re.sub(r"[^\n]", "\0", match[0]), text)
    where, at = "file", 0
    for number, line in enumerate(code.split("\n"), 1):
        if named := NAME.match(line):
            where = next(filter(None, named.groups()))
        if not line.startswith("#"):
            for pattern, new in SWAPS:
                for match in re.finditer(pattern, line):
                    changed = new(match[0]) if callable(new) else new
                    start, end = match.span()
                    before, after = line[:start][-AROUND:], line[end:][:AROUND]
                    change = f"{before}{match[0]}{after} -> {before}{changed}{after}".replace("\0", "")
                    yield c_mutant(file, text, number, where, change, at + start, at + end, changed)
            bare = line.rstrip("\\ \0")
            if STATEMENT.match(bare):
                start = len(bare) - len(bare.lstrip())
                yield c_mutant(file, text, number, where, f"{bare.strip()} -> nothing", at + start, at + len(bare), ";")
        at += len(line) + 1


def c_mutant(file, text, line, where, change, start, end, new):
    """Return a mutant, its places given in characters."""
    return Mutant(file, line, where, change, len(text[:start].encode()), len(text[:end].encode()), new)
