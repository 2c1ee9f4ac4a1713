"""Damaged and hostile files: every reader loads them or raises one of our errors, and takes little memory."""

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import fresh_python
import numpy
import pytest

import minidl as dl
from minidl import data, weights
from minidl.cli import main
from minidl.data import images, read_csv, read_idx
from minidl.data.files import LONGEST_LINE, read_lines, read_text
from minidl.errors import DtypeError, FileFormatError, MinidlError, ParameterError

FUZZ = Path(__file__).parent / "helpers" / "fuzz_readers.py"
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does it")


def fuzz(count, seed):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FUZZ), str(count), str(seed)], capture_output=True, text=True, timeout=600
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["read"] >= 10 * count
    assert found["problems"] == []


@linux
def test_damaged_files_of_every_kind():
    pytest.importorskip("safetensors")
    fuzz(200, 0)


@linux
@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_damaged_files_of_every_kind(seed):
    pytest.importorskip("safetensors")
    fuzz(5000, seed)


# what a compressed file may become -----------------------------------------------------------------------------------


def bomb(path, start, piece, count, make=lambda: zlib.compressobj(6, zlib.DEFLATED, 31)):
    """Write a compressed file that holds ``start`` and ``count`` times ``piece``."""
    pack = make()
    with path.open("wb") as file:
        file.write(pack.compress(start))
        for _ in range(count):
            file.write(pack.compress(piece))
        file.write(pack.flush())
    return path


MEASURE = """
import resource, sys
from minidl import data
from minidl.errors import FileFormatError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    CALL
except FileFormatError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, error)
"""


def refused(call):
    """Return by how many MiB a process has grown until a call was refused, and the message."""
    grown, message = fresh_python.run(MEASURE.replace("CALL", call)).split(" ", 1)
    return int(grown), message


@linux
class TestBombs:
    def test_one_endless_field(self, tmp_path):
        path = bomb(tmp_path / "a.csv.gz", b"a,b\n1,", b"0" * (1 << 20), 256)
        assert path.stat().st_size < 1 << 20
        grown, message = refused(f"data.read_csv({str(path)!r})")
        assert grown < 120
        assert "line 2" in message

    def test_endless_rows_of_a_column_that_is_left_out(self, tmp_path):
        path = bomb(tmp_path / "a.csv.gz", b"", b"0" * 100_000 + b"\n", 64)
        _, message = refused(f"data.read_csv({str(path)!r}, max_bytes=1 << 20)")
        assert "more than 1048576 bytes when it is decompressed; if it should, allow more with max_bytes" in message

    def test_an_array_that_announces_three_gigabytes(self, tmp_path):
        path = bomb(tmp_path / "a.gz", struct.pack(">HBBI", 0, 8, 1, 3 << 30), bytes(1 << 20), 64)
        grown, message = refused(f"data.read_idx({str(path)!r})")
        assert grown < 20
        assert "announces 3221225472 bytes" in message
        assert "max_bytes" in message

    def test_an_archive_with_a_member_of_two_gigabytes(self, tmp_path):
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.size = 2 << 30
        bomb(tmp_path / "cifar-10-binary.tar.gz", member.tobuf(), bytes(1 << 20), 64)
        grown, message = refused(f"data.cifar10({str(tmp_path)!r}, download=False)")
        assert grown < 40
        assert "has 2147483648 bytes, expected 10000 records of 3073" in message

    @pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
    def test_an_archive_with_something_else_that_is_too_large(self, tmp_path, kind):
        """A header for a long name may announce any length, too."""
        member = tarfile.TarInfo("other")
        member.size, member.type = 1 << 30, kind
        bomb(tmp_path / "cifar-10-binary.tar.gz", member.tobuf(), bytes(1 << 20), 256)
        grown, message = refused(f"data.cifar10({str(tmp_path)!r}, download=False)")
        assert grown < 600  # three archives
        assert f"more than {images.CIFAR_ARCHIVE} bytes" in message


def test_the_bound_is_the_callers(tmp_path):
    array = numpy.arange(1000, dtype="int32")
    data.write_idx(tmp_path / "a.gz", array)
    data.write_idx(tmp_path / "a", array)
    with pytest.raises(FileFormatError, match="announces 4000 bytes .* may hold 3999"):
        read_idx(tmp_path / "a.gz", max_bytes=3999)
    for arguments in ({"max_bytes": 4000}, {"max_bytes": None}, {}):
        numpy.testing.assert_array_equal(read_idx(tmp_path / "a.gz", **arguments), array)
    numpy.testing.assert_array_equal(read_idx(tmp_path / "a", max_bytes=1), array)  # nothing is decompressed
    text = "a,b\n" + "1,2\n" * 100
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(FileFormatError, match="becomes more than 403 bytes"):
        read_csv(tmp_path / "t.csv.gz", max_bytes=403)
    for limit in (404, None):
        assert read_csv(tmp_path / "t.csv.gz", max_bytes=limit).X.shape == (100, 2)
    for limit in (0, -1, 1.5, True, "1"):
        wanted = "an integer of at least 1" if type(limit) is int else "a whole number"
        with pytest.raises(ParameterError, match=f"max_bytes must be {wanted}, or None.*, got {limit!r}"):
            read_csv(tmp_path / "t.csv.gz", max_bytes=limit)
        with pytest.raises(ParameterError, match="max_bytes must be an integer of at least 1, or None"):
            read_idx(tmp_path / "a.gz", max_bytes=limit)


# text ----------------------------------------------------------------------------------------------------------------

TEXT = 'a,ä\r\n1,"x\ny"\r3,4\n\n5,6'


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.CSV.GZ", "t.csv.bz2", "t.csv.xz"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_text_plain_and_compressed(tmp_path, name, encoding):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(Path(name).suffix.lower(), bytes)
    (tmp_path / name).write_bytes(pack(TEXT.encode(encoding)))
    assert read_text(tmp_path / name, encoding) == TEXT
    assert list(read_lines(tmp_path / name, encoding)) == list(io.StringIO(TEXT, newline=""))


@pytest.mark.parametrize("name", ["t.gz", "t.bz2", "t.xz"])
def test_compressed_text_that_is_damaged(tmp_path, name):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[Path(name).suffix]
    whole = pack(os.urandom(3000).hex().encode())
    for content, words in [
        (whole[:-20], "end too early|damaged"),
        (b"text", "not compressed as its name says|end too early"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=f"{name}: .*({words})"):
            read_text(tmp_path / name)


def test_the_byte_that_is_not_text_is_named_wherever_it_is(tmp_path):
    for at in (0, 5, 8191, 8192, 100_000):
        (tmp_path / "t").write_bytes(b"a" * at + b"\xff" + b"a" * 50)
        with pytest.raises(FileFormatError, match=f"byte {at} is not text in the encoding 'utf-8-sig'"):
            read_text(tmp_path / "t")


def test_a_line_without_end(tmp_path):
    (tmp_path / "t").write_bytes(b"a\n" + b"x" * (LONGEST_LINE - 2) + b"\n" + b"x" * LONGEST_LINE)
    with pytest.raises(FileFormatError, match=f"line 3: a line has {LONGEST_LINE} characters or more"):
        for _ in read_lines(tmp_path / "t"):
            pass


# errors of others ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf9", "hex", "a\0b", "", None, 3, "undefined"])
def test_encodings_that_are_none(tmp_path, encoding):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    if encoding is None:
        assert read_csv(tmp_path / "t.csv", encoding=None)  # the system's
        return
    with pytest.raises((ParameterError, FileFormatError), match="encoding"):
        read_csv(tmp_path / "t.csv", encoding=encoding)


@pytest.mark.parametrize("delimiter", ["\n", "\r", '"', "", ",,", None, 3])
def test_delimiters_that_are_none(tmp_path, delimiter):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    wanted = "single character" if isinstance(delimiter, str) else "string"
    with pytest.raises(ParameterError, match=f"read_csv: delimiter must be a {wanted}, got"):
        read_csv(tmp_path / "t.csv", delimiter=delimiter)


@pytest.mark.parametrize("dtype", ["nope", "int32", object(), "f4,f4"])
def test_dtypes_that_are_none(tmp_path, dtype):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DtypeError, match="dtype must be floating"):
        read_csv(tmp_path / "t.csv", dtype=dtype)


@pytest.mark.parametrize(
    "read", [read_csv, read_idx, weights.load_file, dl.Linear(2, 2).load, lambda path: data.mnist(path, download=False)]
)
def test_paths_that_cannot_be(read):
    with pytest.raises(MinidlError):
        read("a\0b")


def test_arrays_that_numpy_cannot_hold(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(struct.pack(">HBB", 0, 8, 65) + struct.pack(">65I", *[1] * 65) + b"x")
    with pytest.raises(FileFormatError, match="65 axes; NumPy's have at most 64"):
        read_idx(path)
    path.write_bytes(struct.pack(">HBB", 0, 8, 4) + struct.pack(">4I", 0, *[2**32 - 1] * 3))
    with pytest.raises(FileFormatError, match="no array can have the shape"):
        read_idx(path)


def test_a_pipe_can_be_read(tmp_path):
    ends = os.pipe()
    with os.fdopen(ends[1], "wb") as file:
        file.write(struct.pack(">HBBI", 0, 8, 1, 3) + b"abc")
    try:
        assert bytes(read_idx(f"/dev/fd/{ends[0]}")) == b"abc"
    except FileNotFoundError:
        pytest.skip("no files for descriptors here")
    finally:
        os.close(ends[0])


@pytest.mark.parametrize("state", [None, [], 3, {1: 2}, {"step": object()}, {"step": [[1], [2, 3]]}])
def test_states_of_optimizers_that_are_none(state):
    optimizer = dl.Adam(dl.Linear(2, 2).parameters())
    named = isinstance(state, dict) and "step" in state
    error, message = (DtypeError, "step cannot be read as a NumPy array") if named else (ParameterError, "expected")
    with pytest.raises(error, match=rf"Adam\.load_state_dict: {message}"):
        optimizer.load_state_dict(state)


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("t.csv").write_text("a,b\n" + "1,2\n3,4\n" * 10)
        Path("own.py").write_text("class Same:\n def forward(self, x): return x\n def backward(self, dy): return dy\n")

    @pytest.mark.parametrize(
        "command",
        [
            "train --data t.csv --epochs 1 --layers 99999999999999999999",
            "train --data t.csv --epochs 1 --save .",
            "train --data t.csv --epochs 1 --save t.csv/a",
            "train --data a\0b",
            "train --data .",
            "train --data own.py",
            "gradcheck own.py:Same --shape 1000000000000,9",
            "gradcheck own.py:Same --shape 2147483647,2147483647",
            "gradcheck own.py:Same --shape 99999999999999999999",
        ],
    )
    def test_mistakes_are_one_line(self, command, capsys):
        assert main(command.split(" ")) == 2
        err = capsys.readouterr().err
        assert err.startswith("minidl: ")
        assert len(err.splitlines()) == 1

    def test_too_little_memory_is_one_line(self, capsys, monkeypatch):
        def exhausted(*arguments, **options):
            raise MemoryError("Unable to allocate\n1 TiB")

        monkeypatch.setattr("minidl.testing.check_object", exhausted)
        assert main(["gradcheck", "own.py:Same"]) == 2
        assert capsys.readouterr().err == "minidl: not enough memory: Unable to allocate 1 TiB\n"

    @pytest.mark.parametrize(
        "command",
        [
            "train --data t.csv --seed -1",
            "train --data t.csv --threads 2147483648",
            "train --data t.csv --batch-size 99999999999999999999",
            "gradcheck relu --seed -1",
            "demo --seed -1",
            "bench --threads 99999999999999999999",
        ],
    )
    def test_numbers_out_of_range(self, command, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(command.split())
        assert stopped.value.code == 2
        assert "error: argument --" in capsys.readouterr().err
