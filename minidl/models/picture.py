"""A picture of a model as Mermaid text."""

from __future__ import annotations

from minidl.layers.chain import Chain
from minidl.models.summary import summarize

__all__ = ["to_mermaid"]


def to_mermaid(model: Chain) -> str:
    """Return a Mermaid flow chart: one box a layer, the arrows labelled with what flows along them.

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
    previous, shape = "input", table.input_shape
    for row in table.rows:
        node = "l" + row.name.replace(".", "_")
        parameters = f"<br/>{row.parameters:,} parameters" if row.parameters else ""
        label = row.layer.replace('"', "'")
        boxes.append(f'    {node}["{row.name}: {label}{parameters}"]')
        arrows.append(_arrow(previous, shape, node))
        previous, shape = node, row.output_shape
    boxes.append('    output(["output"])')
    arrows.append(_arrow(previous, shape, "output"))
    return "\n".join(["flowchart TD", *boxes, *arrows])


def _arrow(start: str, shape: tuple[int, ...] | None, stop: str) -> str:
    if shape is None:
        return f"    {start} --> {stop}"
    return f'    {start} -- "{" x ".join(["N", *map(str, shape)])}" --> {stop}'
