"""Image data sets: where they are found, how they are fetched, and what is refused."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from typing import ClassVar

import numpy
import pytest

from minidl.data import cifar10, download, fashion_mnist, images, mnist, write_idx
from minidl.data.download import RemoteFile, fetch
from minidl.errors import DataError, FileFormatError, ParameterError


@pytest.fixture(autouse=True)
def _nothing_is_found_by_itself(request, monkeypatch, tmp_path):
    if "real" not in request.keywords:
        monkeypatch.delenv("MINIDL_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache" / "minidl")
        monkeypatch.setattr(download.sys, "prefix", str(tmp_path / "prefix"))


def write_digits(folder, compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    for name, shape in zip(images.IDX_FILES, [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)], strict=True):
        values = random.integers(0, 10, shape, dtype="uint8") if len(shape) == 1 else numpy.zeros(shape, "uint8")
        write_idx(folder / (name if compressed else name.removesuffix(".gz")), values)


def test_found_in_the_folder_given_plain_or_compressed(tmp_path):
    write_digits(tmp_path / "here", compressed=False)
    found = mnist(tmp_path / "here", download=False)
    assert found.train_images.shape == (60000, 1, 28, 28)
    assert found.test_images.dtype == numpy.uint8
    assert found.test_labels.dtype == numpy.int64
    assert found.classes[3] == "3"


@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_found_where_the_environment_says(tmp_path, monkeypatch, below):
    write_digits(tmp_path / "there" / below, compressed=False)
    monkeypatch.setenv("MINIDL_DATA", f"{tmp_path / 'nowhere'}:{tmp_path / 'there'}".replace(":", download.os.pathsep))
    assert fashion_mnist(download=False).classes[0] == "T-shirt/top"


@pytest.mark.parametrize("place", ["cache/minidl/mnist", "prefix/share/datasets/mnist"])
def test_found_in_the_cache_and_where_systems_install_it(tmp_path, place):
    write_digits(tmp_path / place, compressed=False)
    assert mnist(download=False).train_labels.shape == (60000,)


def test_what_to_do_when_there_is_nothing(tmp_path):
    with pytest.raises(DataError, match=r"(?s)put train-images-idx3-ubyte.gz, .* into .*MINIDL_DATA"):
        mnist(download=False)
    with pytest.raises(DataError, match="cifar-10-binary.tar.gz"):
        cifar10(tmp_path, download=False)


def test_files_that_are_not_what_their_names_say(tmp_path):
    write_digits(tmp_path, compressed=False)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", numpy.full(10000, 10, "uint8"))
    with pytest.raises(FileFormatError, match="labels must be less than 10, got 10"):
        mnist(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", numpy.zeros(9999, "uint8"))
    with pytest.raises(
        FileFormatError, match=r"expected bytes of shape \(10000,\) for mnist, got uint8 of shape \(9999,\)"
    ):
        mnist(tmp_path)


# downloads ---------------------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 5000


class Server(http.server.BaseHTTPRequestHandler):
    ranges = True
    stop_after = None
    asked: ClassVar[list[str | None]] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.stop_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Server, "asked", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/file"
        running.shutdown()


@pytest.fixture
def wanted(server):
    return RemoteFile("file", server, hashlib.sha256(CONTENT).hexdigest())


get = functools.partial(fetch, schemes=("http",))


def test_a_download_is_whole_and_alone(tmp_path, wanted):
    assert get(wanted, tmp_path / "new").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_stopped(tmp_path, wanted, monkeypatch, ranges):
    monkeypatch.setattr(Server, "stop_after", 500_000)
    with pytest.raises(ConnectionError, match="ended after 500000 of 1280000 bytes"):
        get(wanted, tmp_path)
    assert not (tmp_path / "file").exists()
    monkeypatch.setattr(Server, "stop_after", None)
    monkeypatch.setattr(Server, "ranges", ranges)
    assert get(wanted, tmp_path).read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=500000-"]


def test_a_download_that_was_whole_but_not_yet_checked(tmp_path, wanted):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert get(wanted, tmp_path).read_bytes() == CONTENT


def test_another_content_is_thrown_away(tmp_path, wanted):
    with pytest.raises(FileFormatError, match=r"expected 0+, and was deleted"):
        get(RemoteFile("file", wanted.url, "0" * 64), tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_over_https(tmp_path, wanted):
    with pytest.raises(ParameterError, match="downloads must use https, not http:"):
        fetch(wanted, tmp_path)


def test_offline_says_where_to_put_the_files(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise download.urllib.error.URLError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError, match=r"(?s)download failed .*no network.*put train-images-idx3-ubyte.gz"):
        mnist()


# CIFAR-10 ----------------------------------------------------------------------------------------------------------------


def write_cifar(folder, spoil=lambda name, content: content):
    random = numpy.random.default_rng(0)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as archive:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            records = numpy.zeros((10000, images.CIFAR_RECORD), "uint8")
            records[:, 0] = random.integers(0, 10, 10000)
            records[:, 1] = numpy.arange(10000) % 256
            content = spoil(name, records.tobytes())
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_cifar10_is_read_from_its_archive(tmp_path):
    write_cifar(tmp_path)
    found = cifar10(tmp_path, download=False)
    assert found.train_images.shape == (50000, 3, 32, 32)
    assert found.test_images[300, 0, 0, 0] == 300 % 256
    assert found.classes[6] == "frog"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda name, content: content[:-1], "has 30729999 bytes, expected 10000 records of 3073"),
        (lambda name, content: b"\x0a" + content[1:], "has a label of 10, expected less than 10"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, spoil, words):
    write_cifar(tmp_path, spoil)
    with pytest.raises(FileFormatError, match=words):
        cifar10(tmp_path, download=False)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes((tmp_path / "cifar-10-binary.tar.gz").read_bytes()[:1000])
    with pytest.raises(FileFormatError, match="not a whole archive"):
        cifar10(tmp_path, download=False)


# the real files ----------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_real_fashion_mnist():
    try:
        found = fashion_mnist(download=False)
    except DataError as error:
        pytest.skip(f"Fashion-MNIST is not on this machine: {error}")
    assert found.train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert numpy.bincount(found.train_labels).tolist() == [6000] * 10
    assert numpy.bincount(found.test_labels).tolist() == [1000] * 10
    assert round(float(found.train_images.mean()), 2) == 72.94
    train, test = found.as_floats()
    assert abs(train.mean()) < 1e-4
    assert abs(train.std() - 1) < 1e-4
    assert abs(test.mean()) < 0.01
