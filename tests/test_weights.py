"""Files of weights: what is read, what is refused, and how much memory it takes."""

import doctest
import json
import os
import stat
import struct
import sys
import types
from pathlib import Path

import fresh_python
import numpy
import pytest

from minidl import weights
from minidl.errors import (
    DtypeError,
    FileFormatError,
    MissingDependencyError,
    NonFiniteError,
    ParameterError,
    UnknownNameError,
)
from minidl.weights.tensors import BLOCK, from_bfloat16, to_bfloat16

safetensors = pytest.importorskip("safetensors.numpy")
RNG = numpy.random.default_rng(0)


def write(path, header, data=b""):
    """Write a file with this header, without any of the checks that a writer should make."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def one(code, data, shape):
    return {"w": {"dtype": code, "shape": shape, "data_offsets": [0, len(data)]}}, data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class TestBfloat16:
    def test_every_number_is_what_its_bits_say(self):
        bits = numpy.arange(1 << 16, dtype=numpy.uint16)
        values = from_bfloat16(bits)
        for i in (0, 1, 0x7F, 0x80, 0x3F80, 0x4049, 0x7F7F, 0x7F80, 0x8000, 0x8001, 0xFF80):
            sign, exponent, fraction = (-1) ** (i >> 15), (i >> 7) & 0xFF, i & 0x7F
            if exponent == 0xFF:
                expected = sign * numpy.inf
            elif exponent:
                expected = sign * (1 + fraction / 128) * 2.0 ** (exponent - 127)
            else:
                expected = sign * fraction / 128 * 2.0**-126
            assert values[i] == expected
        assert numpy.isnan(values).sum() == 2 * 127

    def test_numbers_that_have_one_are_kept(self):
        bits = numpy.arange(1 << 16, dtype=numpy.uint16)
        values = from_bfloat16(bits)
        same = to_bfloat16(values) == bits
        assert same[~numpy.isnan(values)].all()
        assert numpy.isnan(from_bfloat16(to_bfloat16(values[numpy.isnan(values)]))).all()

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_nearest_is_taken_and_of_two_the_even_one(self, sign):
        bits = numpy.arange(0x7F7F, dtype=numpy.uint16)  # all finite ones but the largest, from 0 up
        low, high = (from_bfloat16(b).astype("float64") for b in (bits, bits + numpy.uint16(1)))
        middle = ((low + high) / 2).astype("float32")
        assert (middle.astype("float64") * 2 == low + high).all(), "float32 must hold it exactly"
        even = bits + (bits & 1)
        for value, expected in [
            (middle, even),
            (numpy.nextafter(middle, numpy.float32(numpy.inf)), bits + 1),
            (numpy.nextafter(middle, numpy.float32(-numpy.inf)), bits),
        ]:
            expected = expected.astype(numpy.uint16) | (0x8000 if sign < 0 else 0)
            numpy.testing.assert_array_equal(to_bfloat16(sign * value), expected)

    def test_nan_stays_nan_whatever_its_bits(self):
        bits = numpy.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7F80FFFF], dtype=numpy.uint32)
        assert numpy.isnan(from_bfloat16(to_bfloat16(bits.view(numpy.float32)))).all()


class TestReading:
    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
    def test_what_the_package_wrote(self, path, dtype):
        arrays = {
            "a": (RNG.standard_normal((3, 5)) * 10).astype(dtype),
            "scalar": numpy.array(1, dtype),
            "empty": numpy.zeros((0, 4), dtype),
        }
        safetensors.save_file(arrays, path)
        found = weights.load_file(path)
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            numpy.testing.assert_array_equal(found[name], array)

    def test_bfloat16_becomes_float32(self, path):
        bits = RNG.integers(0, 1 << 16, 2 * BLOCK + 3, dtype=numpy.uint16)  # three blocks
        write(path, *one("BF16", bits.tobytes(), [bits.size]))
        found = weights.load_file(path)["w"]
        assert found.dtype == numpy.float32
        numpy.testing.assert_array_equal(found.view(numpy.uint32), bits.astype(numpy.uint32) << 16)

    @pytest.mark.parametrize("code", ["F8_E4M3", "F8_E5M2"])
    def test_a_dtype_that_numpy_lacks_is_named_with_its_tensor(self, path, code):
        write(path, *one(code, b"\0" * 4, [4]))
        with pytest.raises(FileFormatError, match=f"model.safetensors.*tensor w has dtype {code}"):
            weights.load_file(path)

    @pytest.mark.parametrize(
        ("header", "data", "message"),
        [
            ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 4, "w"),  # shape and size differ
            ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\0" * 8, "w"),  # a gap
            (
                {n: {"dtype": "F32", "shape": [2], "data_offsets": [a, a + 8]} for n, a in (("v", 0), ("w", 4))},
                b"\0" * 12,
                "w",
            ),  # an overlap
            ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 7, ""),  # cut short
            ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 9, ""),  # too long
            ({"w": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 8]}}, b"\0" * 8, ""),
            ({"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"\0" * 8, ""),
            (
                {"w": {"dtype": "F7", "shape": [2], "data_offsets": [0, 8]}},
                b"\0" * 8,
                "F7.*newer version",
            ),  # no such dtype
            ({"w": [1, 2]}, b"", ""),
            (b"[]", b"", ""),
            (b"{", b"", ""),
            (b'{"w": ' * 100_000, b"", ""),
            (
                b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                b"\0" * 4,
                "twice",
            ),
        ],
    )
    def test_damaged_files(self, path, header, data, message):
        write(path, header, data)
        with pytest.raises(FileFormatError, match=f"(?s)model.safetensors is not a whole safetensors file.*{message}"):
            weights.load_file(path)

    def test_more_axes_than_numpy_has(self, path):
        write(path, *one("F32", b"\0" * 4, [1] * 70))
        with pytest.raises(FileFormatError, match="w has shape"):
            weights.load_file(path)

    def test_a_file_cut_short_while_it_is_read(self, path):
        safetensors.save_file({"w": numpy.ones(100_000, "float32")}, path)
        with weights.open_weights(path) as tensors:
            os.truncate(path, 1000)
            with pytest.raises(FileFormatError, match="was truncated while w was read"):
                tensors["w"].read_all()

    @pytest.mark.parametrize(
        ("name", "content", "advice"),
        [
            ("pytorch_model.bin", b"PK\x03\x04 a zip", "weights_only=True"),
            ("model.safetensors", b"PK\x03\x04 a zip", "weights_only=True"),
            ("model.pt", b"\x80\x02}q\x00.", "weights_only=True"),
            ("old.weights", b"\x80\x04}\x94.", "weights_only=True"),
            ("arrays.npz", b"PK\x03\x04", "numpy.load"),
        ],
    )
    def test_pickles_are_refused_and_the_way_out_is_named(self, tmp_path, name, content, advice):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=f"{name} is not a whole safetensors file.*{advice}"):
            weights.load_file(tmp_path / name)

    def test_a_file_with_an_unusual_name_is_read_all_the_same(self, tmp_path):
        weights.save_file({"w": numpy.ones(3)}, tmp_path / "model.pt")
        assert list(weights.load_file(tmp_path / "model.pt")) == ["w"]

    def test_no_file(self, path):
        with pytest.raises(FileNotFoundError):
            weights.load_file(path)

    def test_the_missing_package_is_named(self, path, monkeypatch):
        weights.save_file({"w": numpy.ones(3)}, path)
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'minidl\[weights\]'"):
            weights.load_file(path)


class TestWriting:
    def test_the_package_reads_it(self, path):
        arrays = {
            "matrix": RNG.standard_normal((3, 5)).astype("float32"),
            "columns": RNG.standard_normal((5, 3)).T,
            "half": numpy.ones(3, "float16"),
            "flags": numpy.array([True, False, True]),
            "count": numpy.array(7),
            "nothing": numpy.zeros((0, 2), "float32"),
            "swapped": numpy.arange(3, dtype=">i4"),
            "naïve ☃": numpy.ones(1),
        }
        weights.save_file(arrays, path, {"author": "somebody"})
        with safetensors.safe_open(path, "np") as file:
            assert file.metadata() == {"author": "somebody"}
            assert set(file.keys()) == set(arrays)
            for name, array in arrays.items():
                numpy.testing.assert_array_equal(file.get_tensor(name), array)

    def test_each_tensor_is_aligned(self, path):
        weights.save_file(
            {"byte": numpy.ones(3, "int8"), "wide": numpy.ones(2), "half": numpy.ones(3, "float16")}, path
        )
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        assert (8 + length) % 8 == 0
        for about, size in [(header["byte"], 1), (header["wide"], 8), (header["half"], 2)]:
            assert about["data_offsets"][0] % size == 0

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_in_another_precision(self, path, dtype):
        values = RNG.standard_normal(BLOCK + 5).astype("float32")
        weights.save_file({"w": values, "n": numpy.array(3)}, path, dtype=dtype)
        expected = from_bfloat16(to_bfloat16(values)) if dtype == "bfloat16" else values.astype(dtype)
        found = weights.load_file(path)
        numpy.testing.assert_array_equal(found["w"], expected)
        assert found["n"].dtype == numpy.int64
        size = values.size * {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[dtype]
        assert size < path.stat().st_size < size + 300

    @pytest.mark.parametrize(("dtype", "large"), [("float16", 7e4), ("bfloat16", 3.4e38), ("float32", 1e300)])
    def test_a_number_that_would_become_infinite(self, path, dtype, large):
        weights.save_file({"w": numpy.ones(2)}, path)
        before = path.read_bytes()
        with pytest.raises(NonFiniteError, match=f"w has numbers too large for {dtype}"):
            weights.save_file({"w": numpy.array([1.0, large])}, path, dtype=dtype)
        assert path.read_bytes() == before
        weights.save_file({"w": numpy.array([numpy.inf, numpy.nan])}, path, dtype=dtype)  # what is so already stays so
        assert numpy.isinf(weights.load_file(path)["w"][0])

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (({"w": numpy.array(["text"])},), {}, DtypeError, "w has dtype <U4"),
            (({1: numpy.ones(2)},), {}, ParameterError, "must be strings"),
            (({"__metadata__": numpy.ones(2)},), {}, ParameterError, "must be strings"),
            (({"w": numpy.ones(2)}, {"epoch": 3}), {}, ParameterError, "must be strings"),
            (({"\ud800": numpy.ones(2)},), {}, ParameterError, "cannot be written"),
            (({"w": numpy.ones(2)},), {"dtype": "float8"}, UnknownNameError, "bfloat16, float16"),
            (({"w": numpy.ones(2)},), {"max_shard_size": "2 elephants"}, ParameterError, "max_shard_size.*2 elephants"),
            (({"w": numpy.ones(2)},), {"max_shard_size": 0}, ParameterError, "max_shard_size"),
        ],
    )
    def test_what_cannot_be_written_leaves_nothing(self, tmp_path, arguments, options, error, message):
        state, *rest = arguments
        with pytest.raises(error, match=message):
            weights.save_file(state, tmp_path / "m", *rest, **options)
        assert not list(tmp_path.iterdir())

    def test_a_path_with_a_null_byte(self):
        with pytest.raises(ParameterError, match="null"):
            weights.save_file({"w": numpy.ones(2)}, "a\0b")

    def test_a_folder_that_is_not_there_is_named_as_the_caller_did(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none/m\.safetensors'$"):
            weights.save_file({"w": numpy.ones(2)}, tmp_path / "none" / "m.safetensors")

    def test_a_folder_in_the_place_of_the_file(self, tmp_path):
        with pytest.raises(IsADirectoryError):
            weights.save_file({"w": numpy.ones(2)}, tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(sys.platform == "win32", reason="links and modes are POSIX's")
    def test_links_and_permissions_are_kept(self, tmp_path):
        real, link = tmp_path / "run7.safetensors", tmp_path / "latest.safetensors"
        real.touch(0o600)
        real.chmod(0o600)
        link.symlink_to(real)
        weights.save_file({"w": numpy.ones(2)}, link)
        assert link.is_symlink()
        assert stat.S_IMODE(real.stat().st_mode) == 0o600
        assert list(weights.load_file(real)) == ["w"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    @pytest.mark.parametrize("options", [{}, {"max_shard_size": 8}])
    def test_a_pipe_is_not_replaced(self, tmp_path, options):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with pytest.raises(FileFormatError, match="not a regular file"):
            weights.save_file({"v": numpy.ones(2), "w": numpy.ones(2)}, pipe, **options)
        assert [file.name for file in tmp_path.iterdir()] == ["pipe"]
        assert stat.S_ISFIFO(pipe.stat().st_mode)


class TestShards:
    STATE = types.MappingProxyType({name: numpy.full((4, 8), i, "float32") for i, name in enumerate("abcde")})

    def save(self, path, size=300):
        weights.save_file(self.STATE, path, max_shard_size=size)

    def check(self, path):
        found = weights.load_file(path)
        assert list(found) == list(self.STATE)
        for name, array in self.STATE.items():
            numpy.testing.assert_array_equal(found[name], array)

    def test_names_index_and_both_ways_to_load_it(self, tmp_path, path):
        self.save(path)
        index = tmp_path / "model.safetensors.index.json"
        shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
        assert sorted(file.name for file in tmp_path.iterdir()) == [*shards, index.name]
        about = json.loads(index.read_text())
        assert about["metadata"]["total_size"] == 5 * 128
        assert about["weight_map"] == dict(zip("abcde", [shards[0]] * 2 + [shards[1]] * 2 + [shards[2]], strict=True))
        for place in (index, tmp_path, path, str(tmp_path)):
            self.check(place)

    @pytest.mark.parametrize(
        ("size", "files"), [(128, 6), ("128B", 6), ("0.1KB", None), ("1kb", 1), (10, 6), ("1GiB", 1)]
    )
    def test_sizes(self, tmp_path, path, size, files):
        if files is None:
            with pytest.raises(ParameterError, match="max_shard_size"):
                self.save(path, size)
            return
        self.save(path, size)
        assert len(list(tmp_path.iterdir())) == files
        self.check(tmp_path)

    def test_a_later_save_takes_the_place_of_an_earlier_one(self, tmp_path, path):
        weights.save_file({"old": numpy.ones(3)}, path)
        self.save(path)
        assert not path.exists()
        self.check(path)
        self.save(path, 128)
        self.check(tmp_path)

    def test_a_failed_write_leaves_what_was_there(self, path, tmp_path, monkeypatch):
        self.save(path)
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

        def full(descriptor, calls=[]):  # noqa: B006
            calls.append(descriptor)
            if len(calls) > 1:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            weights.save_file({name: array + 1 for name, array in self.STATE.items()}, path, max_shard_size=300)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before

    def test_a_folder_with_one_file(self, tmp_path, path):
        weights.save_file(self.STATE, path)
        self.check(tmp_path)

    def test_a_folder_in_which_nothing_or_too_much_is_found(self, tmp_path, path):
        with pytest.raises(FileFormatError, match=r"neither model.safetensors nor model.safetensors.index.json"):
            weights.load_file(tmp_path)
        self.save(path)
        weights.save_file(self.STATE, path)
        with pytest.raises(FileFormatError, match="holds both"):
            weights.load_file(tmp_path)
        self.check(path)

    def test_shards_that_are_missing_are_listed(self, tmp_path, path):
        self.save(path)
        for i in (1, 3):
            (tmp_path / f"model-0000{i}-of-00003.safetensors").unlink()
        with pytest.raises(
            FileFormatError, match=r"model-00001-of-00003.safetensors, model-00003-of-00003.safetensors"
        ):
            weights.load_file(tmp_path)

    def test_a_damaged_shard_is_named(self, tmp_path, path):
        self.save(path)
        (tmp_path / "model-00002-of-00003.safetensors").write_bytes(b"nonsense")
        with pytest.raises(FileFormatError, match=r"model-00002-of-00003.safetensors is not a whole"):
            weights.load_file(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda names: names | {"f": names["a"]}, "model-00001-of.*lacks: f; the index does not place there: none"),
            (
                lambda names: {n: f for n, f in names.items() if n != "b"},
                "lacks: none; the index does not place there: b",
            ),
            (lambda names: names | {"b": names["c"]}, "model-00001-of.*lacks: none; the index does not place there: b"),
        ],
    )
    def test_index_and_shards_that_do_not_fit_together(self, tmp_path, path, change, message):
        self.save(path)
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": change(json.loads(index.read_text())["weight_map"])}))
        with pytest.raises(FileFormatError, match=message):
            weights.load_file(tmp_path)

    @pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "C:x", "a\0b"])
    def test_files_elsewhere_are_refused(self, tmp_path, name):
        weights.save_file({"w": numpy.ones(2)}, tmp_path / "x.safetensors")
        folder = tmp_path / "a"
        folder.mkdir()
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(FileFormatError, match="beside the index"):
            weights.load_file(folder)

    @pytest.mark.parametrize(
        "text",
        [
            '{"weight_map": {"w": "a", "w": "b"}}',
            "",
            "[]",
            "{}",
            "7",
            '{"weight_map": []}',
            '{"weight_map": {"w": 3}}',
            '{"weight_map": {"w": ',
            "[" * 100_000,
            "\xff",
        ],
    )
    def test_what_is_no_index(self, tmp_path, text):
        index = tmp_path / "config.json"
        index.write_text(text, encoding="latin-1")
        with pytest.raises(FileFormatError, match="config.json is not an index"):
            weights.load_file(index)

    def test_an_index_of_pickles(self, tmp_path):
        (tmp_path / "pytorch_model-1.bin").write_bytes(b"PK\x03\x04")
        index = tmp_path / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": {"w": "pytorch_model-1.bin"}}))
        with pytest.raises(FileFormatError, match="weights_only=True"):
            weights.load_file(index)


MEASURE = """
import resource, sys, tracemalloc
import numpy
from minidl import Layer
from minidl.layers import Parameter

class Table(Layer):
    def __init__(self):
        super().__init__()
        for name in "abcd":
            setattr(self, name, Parameter(numpy.ones((2048, 2048), "float32")))  # 16 MiB each

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)

def measured(action):
    before = resident()
    tracemalloc.start()
    action()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return max(traced, resident() - before)

size = 4 * 4 * 2048**2
folder = FOLDER
table = Table()
table.flat_buffers()
import safetensors.numpy
for options, ways in [({}, [{}, {"transpose": "*"}]), ({"dtype": "bfloat16"}, [{}, {"transpose": "*"}]), ({"max_shard_size": "20MB"}, [{}])]:
    path = f"{folder}/model.safetensors"
    print(measured(lambda: table.save(path, **options)) / size)
    for way in ways:
        print(measured(lambda: table.load(path, **way)) / size)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is POSIX's")
def test_the_weights_are_never_held_twice(tmp_path):
    shares = fresh_python.run(f"FOLDER = {str(tmp_path)!r}\n{MEASURE}").split()
    assert len(shares) == 8
    assert max(map(float, shares)) < 0.2


def test_the_examples_of_the_page():
    page = Path(__file__).parents[1] / "docs" / "weights.md"
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert tried
    assert not failed
