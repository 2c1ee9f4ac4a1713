"""Where the C headers are that CUDA code may include.

``vector/formulas.h`` has the value and the gradient of every activation as inline functions of one number, in float and in double, and
``elementwise/activation_list.h`` lists them. The CPU's kernels are compiled from the same text.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["include_folder"]


def include_folder() -> Path:
    """Return the folder that a compiler takes with ``-I``.

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
