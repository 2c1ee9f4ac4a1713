"""Load, clean, split, standardise and batch data; and the data sets that ship with the package."""

from minidl.data import augment
from minidl.data.batches import batches, one_hot
from minidl.data.digits import digits
from minidl.data.duplicates import find_duplicates, find_shared_rows
from minidl.data.idx import read_idx, write_idx
from minidl.data.images import ImageData, cifar10, fashion_mnist, mnist
from minidl.data.preprocess import Preprocessor
from minidl.data.shapes import ShapePictures, make_shapes
from minidl.data.split import train_test_split
from minidl.data.standardizer import Standardizer
from minidl.data.synthetic import make_regression
from minidl.data.table import read_csv
from minidl.data.tabular import Table

__all__ = [
    "ImageData",
    "Preprocessor",
    "ShapePictures",
    "Standardizer",
    "Table",
    "augment",
    "batches",
    "cifar10",
    "digits",
    "fashion_mnist",
    "find_duplicates",
    "find_shared_rows",
    "make_regression",
    "make_shapes",
    "mnist",
    "one_hot",
    "read_csv",
    "read_idx",
    "train_test_split",
    "write_idx",
]
