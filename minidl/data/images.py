"""Image data sets: MNIST, Fashion-MNIST, CIFAR-10."""

from __future__ import annotations

import math
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy

from minidl.data.download import RemoteFile, find_or_fetch
from minidl.data.files import decompressed
from minidl.data.idx import read_idx
from minidl.errors import FileFormatError
from minidl.ops._scalars import scalars_checked
from minidl.weights.files import open_binary

__all__ = ["ImageData", "cifar10", "fashion_mnist", "mnist"]


@dataclass(frozen=True)
class ImageData:
    """Images for training and for testing.

    Attributes
    ----------
    train_images, test_images : uint8 array, shape (N, C, H, W)
        From 0 to 255. ``as_floats`` converts them to the floating-point arrays that layers take.
    train_labels, test_labels : int64 array, shape (N,)
        Indices into ``classes``.
    classes : tuple of str
        The names of the classes.
    """

    train_images: numpy.ndarray
    train_labels: numpy.ndarray
    test_images: numpy.ndarray
    test_labels: numpy.ndarray
    classes: tuple[str, ...]

    def as_floats(self, dtype: str = "float32") -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return training and test images standardised by the mean and deviation of the training images.

        >>> images = numpy.array([[[[0, 255]]]], dtype="uint8")
        >>> ImageData(images, numpy.zeros(1, int), images, numpy.zeros(1, int), ("a",)).as_floats()[0].ravel()
        array([-1.,  1.], dtype=float32)
        """
        axes = (0, 2, 3)
        mean = self.train_images.mean(axis=axes, keepdims=True)
        deviation = self.train_images.std(axis=axes, keepdims=True)
        scale, shift = (1 / deviation).astype(dtype), (-mean / deviation).astype(dtype)
        train, test = (images.astype(dtype) * scale + shift for images in (self.train_images, self.test_images))
        return train, test


DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
MNIST_AT = "https://storage.googleapis.com/cvdf-datasets/mnist"
MNIST_SIZES = (9912422, 28881, 1648877, 4542)
MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FASHION_AT = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
FASHION_SIZES = (26421880, 29515, 4422102, 5148)
FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
CIFAR = RemoteFile(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170052171,
)
CIFAR_RECORD = 1 + 3 * 32 * 32  # a label and the three channels of an image
CIFAR_BATCH = 10000 * CIFAR_RECORD
CIFAR_ARCHIVE = 7 * CIFAR_BATCH
"""More than the six batches and the two small files take."""
BLOCK = 1 << 20


@scalars_checked
def mnist(folder: str | os.PathLike[str] | None = None, download: bool = True) -> ImageData:
    """Return handwritten digits: 60,000 training and 10,000 test images of 28 x 28 pixels.

    Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    Parameters
    ----------
    folder : path, optional
        The folder of the four IDX files, plain or compressed. By default they are searched for in the folders in MINIDL_DATA,
        in the user's cache, and where systems install data sets (``share/datasets``), under ``mnist`` or directly.
    download : bool, default True
        Whether to download the files over https if they are not found: about 11 MB, verified by SHA-256.

    Raises
    ------
    DataError
        If the files are not found and cannot be downloaded. Says which files to put where.
    FileFormatError
        If a file is damaged or has other contents.
    """
    return _idx_data("mnist", MNIST_AT, MNIST_SHA256, MNIST_SIZES, DIGITS, folder, download)


@scalars_checked
def fashion_mnist(folder: str | os.PathLike[str] | None = None, download: bool = True) -> ImageData:
    """Return images of clothes: 60,000 training and 10,000 test images of 28 x 28 pixels, 10 classes; MIT licence.

    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (2017).
    It is also found where Debian's package ``dataset-fashion-mnist`` installs it. The arguments are those of :func:`mnist`, the
    folder is ``fashion-mnist``, and the download is about 31 MB.
    """
    return _idx_data("fashion-mnist", FASHION_AT, FASHION_SHA256, FASHION_SIZES, FASHION, folder, download)


def _idx_data(
    name: str,
    address: str,
    digests: tuple[str, ...],
    lengths: tuple[int, ...],
    classes: tuple[str, ...],
    folder: str | os.PathLike[str] | None,
    download: bool,
) -> ImageData:
    files = [
        RemoteFile(file, f"{address}/{file}", sha256, size)
        for file, sha256, size in zip(IDX_FILES, digests, lengths, strict=True)
    ]
    paths = find_or_fetch(name, files, folder, download)
    arrays = []
    for path, expected in zip(paths, [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)], strict=True):
        array = read_idx(path, max_bytes=math.prod(expected))
        if array.shape != expected or array.dtype != numpy.uint8:
            raise FileFormatError(
                f"{path}: expected bytes of shape {expected} for {name}, got {array.dtype} of shape {array.shape}"
            )
        if array.ndim == 1 and array.max() >= len(classes):
            raise FileFormatError(f"{path}: labels must be less than {len(classes)}, got {array.max()}")
        arrays.append(array[:, None] if array.ndim == 3 else array.astype(numpy.int64))
    train_images, train_labels, test_images, test_labels = arrays
    return ImageData(train_images, train_labels, test_images, test_labels, classes)


@scalars_checked
def cifar10(folder: str | os.PathLike[str] | None = None, download: bool = True) -> ImageData:
    """Return photographs of ten classes: 50,000 training and 10,000 test images of 3 x 32 x 32 pixels.

    A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009). Only the binary version is read, never the one
    for Python, whose pickles could run any code. The arguments are those of :func:`mnist`, the folder is ``cifar-10``, the file
    ``cifar-10-binary.tar.gz``, and the download is about 170 MB.
    """
    [path] = find_or_fetch("cifar-10", [CIFAR], folder, download)
    train = [f"data_batch_{i}.bin" for i in range(1, 6)]
    batches = _members(path, [*train, "test_batch.bin"])
    parts = [_cifar_records(path, name, batches[name]) for name in [*train, "test_batch.bin"]]
    images, labels = (numpy.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return ImageData(images, labels, parts[-1][0], parts[-1][1], OBJECTS)


def _members(path: Path, names: list[str]) -> dict[str, bytes]:
    """Return the content of files in an archive, by name. Nothing that is larger than it should be is ever held."""
    found: dict[str, bytes] = {}
    try:
        with open_binary(path) as file:
            stream = decompressed(file, str(path), CIFAR_ARCHIVE)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if name not in names or not member.isfile():
                        continue
                    if member.size != CIFAR_BATCH:
                        raise tarfile.TarError(
                            f"{name} has {member.size} bytes, expected 10000 records of {CIFAR_RECORD}"
                        )
                    content = archive.extractfile(member)
                    found[name] = b"" if content is None else content.read()
            while stream.read(BLOCK):
                pass  # to the end, where the checksum is
    except (
        tarfile.TarError,
        FileFormatError,
        EOFError,
        ValueError,
        ArithmeticError,
        LookupError,
        RecursionError,
    ) as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix("; get the file again")
        raise FileFormatError(f"{path}: not a whole archive: {reason}; get the file again") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise FileFormatError(f"{path}: the archive has no {', '.join(missing)}; expected CIFAR-10's binary version")
    return found


def _cifar_records(path: Path, name: str, content: bytes) -> tuple[numpy.ndarray, numpy.ndarray]:
    if len(content) != CIFAR_BATCH:
        raise FileFormatError(f"{path}: {name} was cut short")
    records = numpy.frombuffer(content, numpy.uint8).reshape(-1, CIFAR_RECORD)
    if records[:, 0].max() >= len(OBJECTS):
        raise FileFormatError(f"{path}: {name} has a label of {records[:, 0].max()}, expected less than {len(OBJECTS)}")
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(numpy.int64)
