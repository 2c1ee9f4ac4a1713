"""The handwritten digits in the package."""

import gzip
import hashlib

import numpy
import pytest

from minidl.data import digits
from minidl.data.digits import FILE, _load
from minidl.errors import DtypeError, FileFormatError


def test_what_it_holds():
    images, labels = digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == numpy.float32
    assert labels.dtype == numpy.int64
    assert (images.min(), images.max()) == (0, 1)
    # the class sizes that the data set's own description states for this part
    numpy.testing.assert_array_equal(numpy.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_arguments():
    images, _ = digits()
    flat, _ = digits(flat=True, scaled=False, dtype="float64")
    assert flat.dtype == numpy.float64
    numpy.testing.assert_array_equal(flat.reshape(-1, 8, 8), 16 * images.astype("float64"))
    with pytest.raises(DtypeError, match="int64"):
        digits(dtype="int64")


def test_what_is_returned_is_ones_own():
    images, labels = digits()
    images[...], labels[...] = 0, 0
    assert digits()[0].any()
    assert digits()[1].any()


def test_the_file_is_the_one_that_the_licence_names():
    licence = FILE.with_name("digits-LICENSE.txt").read_text()
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in licence
    assert "CC BY 4.0" in licence


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:10],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-4],
        lambda whole: b"",
        lambda whole: b"no gzip at all",
        lambda whole: whole[:3000] + bytes(50) + whole[3050:],
        lambda whole: gzip.compress(gzip.decompress(whole)[:-130]),
        lambda whole: gzip.compress(gzip.decompress(whole).replace(b"16", b"17", 1)),
        lambda whole: gzip.compress(gzip.decompress(whole).replace(b",0,", b",x,", 1)),
        lambda whole: gzip.compress(b"\xff" + gzip.decompress(whole)),
    ],
)
def test_a_damaged_file(tmp_path, damage):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(damage(FILE.read_bytes()))
    with pytest.raises(FileFormatError, match=r"digits\.csv\.gz"):
        _load(path)
