"""The picture of a model, as text of Mermaid."""

from __future__ import annotations

from minidl.layers.base import Shape
from minidl.layers.chain import Chain
from minidl.models.summary import summarize

__all__ = ["to_mermaid"]


def to_mermaid(model: Chain) -> str:
    """Return a Mermaid flow chart: one box for each layer, with shapes at the arrows.

    >>> import minidl as dl
    >>> print(to_mermaid(dl.Sequential([dl.Linear(2, 3), dl.ReLU()])))
    flowchart TD
        input(["input"])
        l0["0: Linear(2, 3)<br/>9 parameters"]
        l1["1: ReLU()"]
        output(["output"])
        input -- "N x 2" --> l0
        l0 -- "N x 3" --> l1
        l1 -- "N x 3" --> output
    """
    table = summarize(model)
    boxes, arrows = ['    input(["input"])'], []
    shapes: dict[str, Shape | None] = {"input": table.input_shape}
    last = ("input",)
    for row in table.rows:
        parameters = f"<br/>{row.parameters:,} parameters" if row.parameters else ""
        label = row.layer.replace('"', "'")
        boxes.append(f'    {_node(row.name)}["{row.name}: {label}{parameters}"]')
        arrows += [_arrow(source, shapes[source], _node(row.name)) for source in row.sources]
        shapes[row.name] = row.output_shape
        last = (row.name,)
    boxes.append('    output(["output"])')
    arrows += [_arrow(source, shapes[source], "output") for source in last]
    return "\n".join(["flowchart TD", *boxes, *arrows])


def _node(name: str) -> str:
    return name if name == "input" else "l" + name.replace(".", "_")


def _arrow(start: str, shape: tuple[int, ...] | None, stop: str) -> str:
    start = _node(start)
    if shape is None:
        return f"    {start} --> {stop}"
    return f'    {start} -- "{" x ".join(["N", *map(str, shape)])}" --> {stop}'
