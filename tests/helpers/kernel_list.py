"""The activations that have kernels, read from the one list that csrc makes everything from."""

import re

from minidl.engines.headers import include_folder
from minidl.ops import activation

LIST = (include_folder() / "elementwise" / "activation_list.h").read_text().split("#define MINIDL_FUNCTION_LIST")[0]
ACTIVATIONS = tuple(name for name in re.findall(r"^ +X\((\w+), ", LIST, re.MULTILINE) if hasattr(activation, name))
