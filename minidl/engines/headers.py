"""Where to find the C headers that CUDA code can include.

``vector/formulas.h`` has the value and the gradient of every activation as inline functions of one number, in float and in
double. ``elementwise/activation_list.h`` lists them. The kernels of the CPU are compiled from the same text.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["include_folder"]


def include_folder() -> Path:
    """Return the folder to give to a compiler with ``-I``.

    In an installed package it is ``minidl/csrc``; in a checkout it is ``csrc``, beside the package.

    Returns
    -------
    folder : Path

    Raises
    ------
    FileNotFoundError
        If the headers are in neither place.

    Examples
    --------
    >>> (include_folder() / "vector" / "formulas.h").exists()
    True
    """
    package = Path(__file__).parents[1]
    for folder in (package / "csrc", package.parent / "csrc"):
        if (folder / "vector" / "formulas.h").exists():
            return folder
    raise FileNotFoundError(f"the headers for CUDA are not in {package / 'csrc'}; reinstall minidl")
