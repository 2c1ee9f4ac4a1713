"""Reading and writing weights: safetensors files, whole or not at all, never pickle.

The header of each file, which may come from anywhere, is checked by the package ``safetensors``: it is the one that other
frameworks use, is fuzzed and maintained by many, and is no part of what minidl exists to show. It is an extra, so the
core stays at two dependencies. The numbers are read and written here, in blocks, because the package's NumPy side has no
bfloat16 and holds whole copies.
"""

from minidl.arrays import to_host
from minidl.weights.files import write_atomically
from minidl.weights.matching import IncompatibleKeys
from minidl.weights.sharded import load_file, open_weights, save_file

__all__ = ["IncompatibleKeys", "load_file", "open_weights", "save_file", "to_host", "write_atomically"]
