"""Loading, cleaning, splitting, standardising and batching; and the data sets that ship with the package."""

from minidl.data.batches import batches, one_hot
from minidl.data.digits import digits
from minidl.data.split import train_test_split
from minidl.data.standardizer import Standardizer
from minidl.data.synthetic import make_regression
from minidl.data.table import Table, read_csv

__all__ = [
    "Standardizer",
    "Table",
    "batches",
    "digits",
    "make_regression",
    "one_hot",
    "read_csv",
    "train_test_split",
]
