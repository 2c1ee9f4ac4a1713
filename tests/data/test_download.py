"""Downloads: several at once, files that are found damaged, and servers that do not behave."""

import functools
import hashlib
import http.server
import io
import multiprocessing
import os
import sys
import threading
import time
import types

import pytest

from minidl.data import download
from minidl.data.download import RemoteFile, fetch, find_or_fetch
from minidl.errors import DataError, FileFormatError
from minidl.weights import files

CONTENT = os.urandom(1 << 12) * 256
SHA256 = hashlib.sha256(CONTENT).hexdigest()
get = functools.partial(fetch, schemes=("http",))
posix = pytest.mark.skipif(sys.platform == "win32", reason="files are locked on POSIX only")


def behave_well(request, start):
    request.begin(206 if start else 200, **{"Content-Length": len(CONTENT) - start})
    request.wfile.write(CONTENT[start:])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        try:
            self.server.behave(self, int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0)
        except OSError:
            self.close_connection = True  # the client has had enough

    def begin(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.behave = [], behave_well
        running.url = f"http://127.0.0.1:{running.server_port}/file"
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def wanted(server):
    return RemoteFile("file", server.url, SHA256, len(CONTENT))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestSeveralAtOnce:
    @staticmethod
    def slowly(request, start):
        request.begin(206 if start else 200, **{"Content-Length": len(CONTENT) - start})
        for at in range(start, len(CONTENT), 1 << 15):
            request.wfile.write(CONTENT[at : min(at + (1 << 15), len(CONTENT))])
            time.sleep(0.005)

    @posix
    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
    def test_processes(self, tmp_path, server, wanted):
        server.behave = self.slowly
        context = multiprocessing.get_context("fork")
        jobs = [context.Process(target=get, args=(wanted, tmp_path)) for _ in range(3)]
        for job in jobs:
            job.start()
            time.sleep(0.03)
        for job in jobs:
            job.join(60)
        assert [job.exitcode for job in jobs] == [0, 0, 0]
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert names(tmp_path) == ["file"]
        assert len(server.asked) == 1

    @pytest.mark.parametrize("locks", [True, False])
    def test_threads_with_and_without_locks(self, tmp_path, server, wanted, monkeypatch, locks):
        if not locks:
            monkeypatch.setattr(files, "fcntl", None)
        server.behave = self.slowly
        found, errors = [], []

        def job():
            try:
                found.append(get(wanted, tmp_path).read_bytes())
            except Exception as error:
                errors.append(error)

        jobs = [threading.Thread(target=job) for _ in range(4)]
        for thread in jobs:
            thread.start()
        for thread in jobs:
            thread.join(60)
        assert not errors
        assert found == [CONTENT] * 4
        assert names(tmp_path) == ["file"]

    @posix
    def test_nobody_waits_for_one_that_hangs(self, tmp_path, wanted, monkeypatch):
        monkeypatch.setattr(download, "PATIENCE", 0.2)
        with (tmp_path / "file.part").open("wb") as held:
            assert files.lock(held.fileno())
            assert get(wanted, tmp_path).read_bytes() == CONTENT
            assert names(tmp_path) == ["file", "file.part"]

    @posix
    def test_a_partial_file_that_is_no_file_of_ours(self, tmp_path, wanted):
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        (tmp_path / "file.part").symlink_to(victim)
        assert get(wanted, tmp_path).read_bytes() == CONTENT
        (tmp_path / "file.part").unlink()
        os.mkfifo(tmp_path / "file.part")
        (tmp_path / "file").unlink()
        assert get(wanted, tmp_path).read_bytes() == CONTENT
        assert victim.read_bytes() == b"precious"

    @posix
    def test_a_link_in_the_place_of_the_file(self, tmp_path, wanted):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "file").symlink_to("elsewhere/real")
        get(wanted, tmp_path)
        assert (tmp_path / "file").is_symlink()
        assert (tmp_path / "elsewhere" / "real").read_bytes() == CONTENT


class TestResuming:
    @pytest.mark.parametrize("size", [None, len(CONTENT)])
    @pytest.mark.parametrize(
        ("part", "asked"),
        [
            (CONTENT[:1000], ["bytes=1000-"]),
            (b"x" * 1000, ["bytes=1000-", None]),  # of something else: all of it again
            (CONTENT + b"x", None),
            (b"x" * len(CONTENT), None),
        ],
    )
    def test_from_a_partial_file(self, tmp_path, server, part, asked, size):
        (tmp_path / "file.part").write_bytes(part)

        def behave(request, start):
            if start >= len(CONTENT):
                request.begin(416)
            else:
                behave_well(request, start)

        server.behave = behave
        assert get(RemoteFile("file", server.url, SHA256, size), tmp_path).read_bytes() == CONTENT
        assert names(tmp_path) == ["file"]
        if asked is None:
            asked = [f"bytes={len(part)}-", None] if size is None else [None]
        assert server.asked == asked

    @pytest.mark.parametrize("first", [0, 1000])
    def test_the_server_says_where_it_begins(self, tmp_path, server, wanted, first):
        (tmp_path / "file.part").write_bytes(CONTENT[:1000])

        def behave(request, start):
            request.begin(206, **{"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"})
            request.wfile.write(CONTENT[first:])

        server.behave = behave
        assert get(wanted, tmp_path).read_bytes() == CONTENT
        assert len(server.asked) == 1

    def test_the_server_begins_somewhere_else(self, tmp_path, server, wanted):
        (tmp_path / "file.part").write_bytes(CONTENT[:1000])
        server.behave = lambda request, start: request.begin(206, **{"Content-Range": "bytes 7-9/10"})
        with pytest.raises(ConnectionError, match="bytes from 1000 on"):
            get(wanted, tmp_path)
        assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000]


class TestServersThatDoNotBehave:
    def fetch(self, server, tmp_path, size=None):
        file = RemoteFile("file", server.url, SHA256, size)
        return get(file, tmp_path)

    @pytest.mark.parametrize("size", [None, 1 << 20])
    def test_an_answer_without_end(self, tmp_path, server, monkeypatch, size):
        monkeypatch.setattr(download, "LARGEST", 1 << 20)

        def behave(request, start):
            request.begin(200)
            while True:
                request.wfile.write(bytes(1 << 16))

        server.behave = behave
        with pytest.raises(FileFormatError, match="larger than 1048576 bytes, and the download was deleted"):
            self.fetch(server, tmp_path, size)
        assert not names(tmp_path)

    def test_an_announced_size_that_is_too_large_is_not_waited_for(self, tmp_path, server):
        server.behave = lambda request, start: request.begin(200, **{"Content-Length": 10**13})
        with pytest.raises(FileFormatError, match="announces 10000000000000"):
            self.fetch(server, tmp_path)
        assert not names(tmp_path)

    @pytest.mark.parametrize("length", ["abc", "-5", "1e3", "9" * 5000])
    def test_an_announced_size_that_is_no_number(self, tmp_path, server, length):
        def behave(request, start):
            request.begin(200, **{"Content-Length": length})
            request.wfile.write(CONTENT)

        server.behave = behave
        assert self.fetch(server, tmp_path).read_bytes() == CONTENT

    @pytest.mark.parametrize(
        "answer",
        [
            b"nonsense\r\n\r\n",
            b"",
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(200)) + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\nshort",
            b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n",
        ],
        ids=range(10),
    )
    def test_an_answer_that_cannot_be_read(self, tmp_path, server, monkeypatch, answer):
        def behave(request, start):
            request.wfile.write(answer)
            request.close_connection = True

        server.behave = behave
        monkeypatch.setattr(download, "fetch", get)
        with pytest.raises(DataError, match=r"(?s)data: the download failed .*; try again, or put file"):
            find_or_fetch("data", [RemoteFile("file", server.url, SHA256)], tmp_path)
        assert not (tmp_path / "file").exists()

    def test_from_https_to_http(self, tmp_path, monkeypatch):
        class Answer(io.BytesIO):
            url, status = "http://example.invalid/file", 200
            headers = types.MappingProxyType({})

        monkeypatch.setattr(download.urllib.request, "urlopen", lambda *args, **options: Answer(CONTENT))
        with pytest.raises(DataError, match="leads to http://example.invalid/file; downloads must use https"):
            fetch(RemoteFile("file", "https://example.invalid/file", SHA256), tmp_path)
        assert not (tmp_path / "file").exists()


class TestWhatIsFound:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MINIDL_DATA", raising=False)
        monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
        monkeypatch.setattr(download.sys, "prefix", str(tmp_path / "prefix"))
        monkeypatch.setattr(download, "fetch", get)

    @pytest.mark.parametrize("spoiled", [CONTENT + b"x", CONTENT[:-1] + b"\0\1", bytes(len(CONTENT))])
    def test_a_damaged_download_is_replaced(self, tmp_path, wanted, server, spoiled):
        folder = tmp_path / "cache" / "data"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(spoiled)
        for _ in range(2):
            [path] = find_or_fetch("data", [wanted])
            assert path.read_bytes() == CONTENT
        assert server.asked == [None]

    def test_a_file_in_a_folder_of_the_callers_is_not_replaced(self, tmp_path, wanted, caplog):
        (tmp_path / "file").write_bytes(b"mine")
        with pytest.raises(FileFormatError, match="is not the file at .*delete it .* download=False"):
            find_or_fetch("data", [wanted], tmp_path)
        assert (tmp_path / "file").read_bytes() == b"mine"
        assert find_or_fetch("data", [wanted], tmp_path, download=False) == [tmp_path / "file"]
        assert "file is not the published file" in caplog.text
        assert caplog.records[0].levelname == "WARNING"

    def test_one_that_others_installed_is_taken_and_logged(self, tmp_path, wanted, monkeypatch, caplog):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "file").write_bytes(b"compressed anew")
        monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "shared"))
        caplog.set_level("INFO")
        assert find_or_fetch("data", [wanted]) == [tmp_path / "shared" / "file"]
        assert "file is not the published file" in caplog.text
        assert caplog.records[0].levelname == "INFO"

    def test_it_is_read_once_as_long_as_it_stays_the_same(self, tmp_path, wanted, monkeypatch):
        counted = []
        sha256 = download._sha256
        monkeypatch.setattr(download, "_sha256", lambda path: (counted.append(path), sha256(path))[1])
        (tmp_path / "file").write_bytes(CONTENT)
        for _ in range(3):
            find_or_fetch("data", [wanted], tmp_path)
        assert len(counted) == 1
        (tmp_path / "file").write_bytes(bytes(len(CONTENT)))
        with pytest.raises(FileFormatError, match="is not the file at"):
            find_or_fetch("data", [wanted], tmp_path)
