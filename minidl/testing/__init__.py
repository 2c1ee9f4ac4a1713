"""Gradient checks: of your own layers and functions, and of everything in this package.

>>> import numpy, minidl
>>> minidl.gradcheck(minidl.Linear(3, 2), numpy.ones((4, 3))).ok
True

``gradcheck`` checks one object, ``check_object`` an object in a file, and ``check_catalogue`` every op on an engine.
``SPECS`` and ``UPDATES`` are the catalogue. ``minidl.testing.mutants`` breaks code deliberately to test the checks.
``minidl.testing.strategies`` draws shapes and arrays for Hypothesis, which must be installed.
"""

from minidl.testing.agreement import agreement, oracle_agreement, update_agreement
from minidl.testing.catalogue import check_catalogue
from minidl.testing.gradcheck import gradcheck
from minidl.testing.layer_checks import check_layer, check_object
from minidl.testing.report import Report, Row
from minidl.testing.specs import SPECS, Case, OpSpec
from minidl.testing.updates import UPDATES, UpdateCase, UpdateSpec

__all__ = [
    "SPECS",
    "UPDATES",
    "Case",
    "OpSpec",
    "Report",
    "Row",
    "UpdateCase",
    "UpdateSpec",
    "agreement",
    "check_catalogue",
    "check_layer",
    "check_object",
    "gradcheck",
    "oracle_agreement",
    "update_agreement",
]
