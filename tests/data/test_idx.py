"""The IDX format, whole and damaged."""

import gzip
import struct
import tracemalloc

import hypothesis
import numpy
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minidl.data import read_idx, write_idx
from minidl.data.idx import TYPES
from minidl.errors import DtypeError, FileFormatError


@hypothesis.given(
    st.sampled_from(sorted(TYPES.values())).flatmap(
        lambda code: arrays.arrays(code[1:], arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    ),
    st.sampled_from(["a", "a.gz"]),
)
def test_what_is_written_is_read(tmp_path_factory, array, name):
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype
    numpy.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", numpy.array([[1, -2, 300]], dtype=">i2"))
    assert (tmp_path / "a").read_bytes() == struct.pack(">HBBIIhhh", 0, 0x0B, 2, 1, 3, 1, -2, 300)


def test_compressed_is_told_by_content_not_by_name(tmp_path):
    write_idx(tmp_path / "a.gz", numpy.arange(3, dtype="uint8"))
    (tmp_path / "a.gz").rename(tmp_path / "a")
    assert read_idx(tmp_path / "a").tolist() == [0, 1, 2]


def test_the_same_array_gives_the_same_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, numpy.arange(3, dtype="uint8"))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


WHOLE = struct.pack(">HBBII", 0, 8, 2, 2, 3) + bytes(range(6))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an IDX file: it begins with nothing"),
        (b"\x89PNG\r\n", "it begins with 89 50 4e 47"),
        (b"\0\0\x07\x01" + bytes(8), "not an IDX file"),
        (WHOLE[:9], "header of an IDX file with 2 axes is cut short"),
        (WHOLE[:-1], r"announces 6 bytes of elements \(shape \(2, 3\), uint8\), but there are 5"),
        (WHOLE + b"x", "but there are more"),
        (gzip.compress(WHOLE + b"x", mtime=0), "but there are more"),
        (struct.pack(">HBBIII", 0, 14, 3, 2**32 - 1, 2**32 - 1, 9), "but there are 0"),
        (gzip.compress(WHOLE, mtime=0)[:-9], "end too early"),
        (gzip.compress(WHOLE, mtime=0)[:12] + b"\xff\xff\xff" + gzip.compress(WHOLE, mtime=0)[15:], "damaged"),
        (gzip.compress(WHOLE[:-1], mtime=0), "but there are 5"),
    ],
)
def test_damage_is_named(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as caught:
        read_idx(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)


def test_no_more_is_decompressed_than_the_header_announces(tmp_path):
    """64 MiB of zeros behind a header that announces 6 bytes."""
    (tmp_path / "a").write_bytes(gzip.compress(WHOLE[:-6] + bytes(1 << 26), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="but there are more"):
        read_idx(tmp_path / "a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 24


def test_numbers_without_a_type_in_the_format(tmp_path):
    with pytest.raises(DtypeError, match="got int64"):
        write_idx(tmp_path / "a", numpy.arange(3))
    assert not list(tmp_path.iterdir())
