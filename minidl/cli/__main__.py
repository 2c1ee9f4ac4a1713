"""Run the command line as ``python -m minidl.cli``, where ``minidl`` is not on the path."""

import sys

from minidl.cli import main

sys.exit(main())
