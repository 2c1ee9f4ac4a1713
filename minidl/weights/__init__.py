"""Weights in safetensors files, which are written as a whole or not at all. Pickle is never read.

The package ``safetensors`` checks the header of each file, because a file may come from anywhere and this code is used and
fuzzed by many. It is an extra, so that the core needs only NumPy and tqdm. The tensors are read and written here, in
blocks, because the package's NumPy functions have no bfloat16 and hold a copy of everything.
"""

from minidl.arrays import arrays_by_name, to_host
from minidl.weights.files import write_atomically
from minidl.weights.matching import IncompatibleKeys
from minidl.weights.sharded import load_file, open_weights, save_file

__all__ = [
    "IncompatibleKeys",
    "arrays_by_name",
    "load_file",
    "open_weights",
    "save_file",
    "to_host",
    "write_atomically",
]
