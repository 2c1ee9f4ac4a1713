"""What writers do with what is at the path, and what a killed process leaves."""

import errno
import itertools
import multiprocessing
import os
import re
import signal
import stat
import sys
import threading

import numpy
import pytest

import minidl as dl
from minidl import weights
from minidl.cli import main
from minidl.data import write_idx
from minidl.errors import FileFormatError, ParameterError
from minidl.metrics import draw_confusion_matrix
from minidl.training import CSVLogger, ModelCheckpoint
from minidl.weights import files
from minidl.weights.files import atomic_file, write_atomically

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes, modes and locks of files are POSIX's")
FORK = "fork" in multiprocessing.get_all_start_methods()


def log_to(path):
    dl.seed(0)
    model = dl.Sequential([dl.Linear(2, 1)])
    model.compile("sgd", "mse")
    model.fit(numpy.ones((4, 2)), numpy.ones(4), epochs=2, callbacks=[CSVLogger(path)])


def checkpoint_to(path):
    model = dl.Sequential([dl.Linear(2, 1)])
    model.compile("sgd", "mse")
    model.fit(numpy.ones((4, 2)), numpy.ones(4), callbacks=[ModelCheckpoint(path)])


WRITERS = {
    "save": lambda path: dl.Linear(3, 3).save(path),
    "save_file": lambda path: weights.save_file({"w": numpy.ones(3)}, path),
    "write_idx": lambda path: write_idx(path, numpy.arange(3, dtype="uint8")),
    "CSVLogger": log_to,
    "ModelCheckpoint": checkpoint_to,
    "draw_confusion_matrix": lambda path: draw_confusion_matrix(path, [0, 1], [0, 1], ["a", "b"]),
    "save_images": lambda path: dl.inspection.save_images(path, numpy.zeros((1, 4, 4))),
    "train --save": lambda path: main(["train", "--data", "digits", "--epochs", "1", "--save", str(path)]),
}


def writer(name):
    if name in ("draw_confusion_matrix", "save_images"):
        pytest.importorskip("matplotlib")
    if name in ("save", "save_file", "ModelCheckpoint", "train --save"):
        pytest.importorskip("safetensors")
    return WRITERS[name]


@pytest.fixture(params=WRITERS)
def write(request):
    return writer(request.param)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@posix
class TestWhatIsThere:
    def test_a_link_stays_and_its_file_is_written(self, tmp_path, write):
        (tmp_path / "elsewhere").mkdir()
        real, link = tmp_path / "elsewhere" / "real.png", tmp_path / "latest.png"
        link.symlink_to("elsewhere/real.png")  # to nothing, at first
        for _ in range(2):
            write(link)
            assert link.is_symlink()
            assert real.stat().st_size
        assert names(tmp_path) == ["elsewhere", "latest.png"]
        assert names(real.parent) == ["real.png"]

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
    def test_the_mode_stays(self, tmp_path, write, mode):
        path = tmp_path / "a.png"
        path.touch()
        path.chmod(mode)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_size

    def test_a_new_file_has_the_mode_that_the_system_gives(self, tmp_path, write):
        before = os.umask(0o027)
        try:
            write(tmp_path / "a.png")
            assert os.umask(0o027) == 0o027
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640

    def test_a_pipe_stays_and_its_reader_gets_everything(self, tmp_path, write):
        pipe, plain = tmp_path / "a.png", tmp_path / "b.png"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            write(pipe)
            write(plain)
            got = os.read(reader, 1 << 16)
        finally:
            os.close(reader)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert len(got) == plain.stat().st_size
        assert names(tmp_path) == ["a.png", "b.png"]

    def test_a_pipe_that_nobody_reads(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for write in (WRITERS["write_idx"], WRITERS["CSVLogger"]):
            with pytest.raises(FileFormatError, match="a pipe that nobody reads"):
                write(tmp_path / "pipe")
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_a_device_stays(self, tmp_path, write):
        """A link to the null device: a writer that replaces what it finds would replace the link, not the device."""
        link = tmp_path / "a.png"
        link.symlink_to("/dev/null")
        write(link)
        assert link.is_symlink()
        assert stat.S_ISCHR(link.stat().st_mode)
        assert names(tmp_path) == ["a.png"]

    def test_sockets_are_refused(self, tmp_path, monkeypatch):
        import socket

        monkeypatch.chdir(tmp_path)  # names of sockets must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
            for write in (WRITERS["write_idx"], WRITERS["CSVLogger"]):
                with pytest.raises(FileFormatError, match="s is not a regular file"):
                    write("s")
        assert names(tmp_path) == ["s"]

    def test_a_file_that_is_protected_from_writing(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(b"kept")
        path.chmod(0o444)
        with pytest.raises(PermissionError, match=r"/a'$"):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"kept"
        assert stat.S_IMODE(path.stat().st_mode) == 0o444

    @pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root may give files away")
    def test_the_owner_stays(self, tmp_path):
        path = tmp_path / "a"
        path.touch()
        os.chown(path, 1234, 2345)
        path.chmod(0o660)
        write_atomically(path, b"new")
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o660)

    def test_another_group_gets_no_more_than_everybody(self, tmp_path, monkeypatch):
        path = tmp_path / "a"
        path.touch()
        path.chmod(0o664)
        other = list(path.stat())
        other[stat.ST_GID] += 1

        def refuse(*arguments):
            raise PermissionError(errno.EPERM, "not yours")

        monkeypatch.setattr(os, "fchown", refuse)
        monkeypatch.setattr(files, "_status", lambda path: os.stat_result(other))
        write_atomically(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_folder_is_named(tmp_path, write, capsys):
    (tmp_path / "a.png").mkdir()
    if write is WRITERS["train --save"]:
        assert write(tmp_path / "a.png") == 2
        assert "Is a directory" in capsys.readouterr().err
    else:
        with pytest.raises(IsADirectoryError, match=r"a\.png'$"):
            write(tmp_path / "a.png")
    assert names(tmp_path) == ["a.png"]
    assert not names(tmp_path / "a.png")


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "train --save"])
def test_what_cannot_be_a_path(tmp_path, name):
    write = writer(name)
    with pytest.raises(ParameterError, match="null"):
        write(f"{tmp_path}/a\0.png")


def test_the_longest_name_can_be_written(tmp_path):
    write_atomically(tmp_path / ("a" * 255), b"x")
    assert names(tmp_path) == ["a" * 255]


def test_files_of_two_shards_that_are_links(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "elsewhere").mkdir()
    index = tmp_path / "m.index.json"
    index.symlink_to(tmp_path / "elsewhere" / "index.json")
    for value in (1, 2):
        weights.save_file({"v": numpy.full(4, value), "w": numpy.full(4, value)}, tmp_path / "m", max_shard_size=32)
        assert index.is_symlink()
        assert weights.load_file(tmp_path / "m")["w"].tolist() == [value] * 4
    assert names(tmp_path / "elsewhere") == ["index.json"]


class TestErrors:
    def test_the_disk_is_full(self, tmp_path, monkeypatch):
        path = tmp_path / "a"
        path.write_bytes(b"old")

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*/a'$"):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["a"]

    def test_the_errors_of_the_block_pass(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="other"), atomic_file(tmp_path / "a"):
            (tmp_path / "other").read_bytes()
        with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a"):
            raise KeyboardInterrupt
        assert not names(tmp_path)


@posix
def test_file_and_folder_are_flushed_in_this_order(tmp_path, monkeypatch):
    done = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (done.append(stat.S_IFMT(os.fstat(descriptor).st_mode)), sync(descriptor))
    )
    rename = files.Path.replace
    monkeypatch.setattr(files.Path, "replace", lambda old, new: (done.append("renamed"), rename(old, new)))
    write_atomically(tmp_path / "a", b"x")
    assert done == [stat.S_IFREG, "renamed", stat.S_IFDIR]


@posix
class TestLeftovers:
    LEFT = f".minidl-{7:016x}.tmp"

    @pytest.mark.skipif(not FORK, reason="the process is killed in a copy of this one")
    def test_a_killed_save_leaves_nothing_after_the_next_one(self, tmp_path):
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            with atomic_file(tmp_path / "a") as file:
                file.write(b"half")
                file.flush()
                os.write(tell, b"x")
                signal.pause()
            os._exit(0)
        try:
            os.read(ready, 1)
            [left] = names(tmp_path)
            assert re.fullmatch(r"\.minidl-[0-9a-f]{16}\.tmp", left)
            write_atomically(tmp_path / "b", b"x")
            assert names(tmp_path) == [left, "b"], "it is being written"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(tell)
        write_atomically(tmp_path / "b", b"x")
        assert names(tmp_path) == ["b"]

    def test_what_is_not_ours_stays(self, tmp_path, monkeypatch):
        for name in (".m.safetensors.0123abcd", ".minidl-x.tmp", "minidl-0000000000000000.tmp", self.LEFT + "~"):
            (tmp_path / name).touch()
        others = names(tmp_path)
        (tmp_path / self.LEFT).mkdir()
        write_atomically(tmp_path / "b", b"x")
        assert names(tmp_path) == sorted([*others, self.LEFT, "b"])
        (tmp_path / self.LEFT).rmdir()
        (tmp_path / self.LEFT).symlink_to(tmp_path / "b")
        write_atomically(tmp_path / "c", b"x")
        assert names(tmp_path) == sorted([*others, self.LEFT, "b", "c"])
        (tmp_path / self.LEFT).unlink()
        (tmp_path / self.LEFT).touch()
        monkeypatch.setattr(os, "geteuid", lambda: 4321)  # another user's
        write_atomically(tmp_path / "b", b"x")
        assert self.LEFT in names(tmp_path)
        monkeypatch.undo()
        write_atomically(tmp_path / "b", b"x")
        assert names(tmp_path) == sorted([*others, "b", "c"])

    def test_where_files_cannot_be_locked_they_are_left_for_an_hour(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "fcntl", None)
        left = tmp_path / self.LEFT
        left.touch()
        write_atomically(tmp_path / "a", b"x")
        assert names(tmp_path) == [self.LEFT, "a"]
        os.utime(left, (1e9, 1e9))
        write_atomically(tmp_path / "a", b"y")
        assert names(tmp_path) == ["a"]
        assert (tmp_path / "a").read_bytes() == b"y"

    def test_many_threads_save_to_one_folder(self, tmp_path):
        """Each looks for leftovers while the others are between creating, locking and renaming."""
        errors = []
        before = sys.getswitchinterval()

        def save(k):
            try:
                for i in range(40):
                    write_atomically(tmp_path / str(k % 3), b"%d" % i)
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=save, args=(k,)) for k in range(6)]
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        assert not errors
        assert names(tmp_path) == ["0", "1", "2"]
        assert {(tmp_path / name).read_bytes() for name in "012"} == {b"39"}

    def test_a_temporary_file_that_is_deleted_before_it_is_locked_is_made_again(self, tmp_path, monkeypatch):
        taken = iter([False, True])
        real = files.same_file
        monkeypatch.setattr(files, "same_file", lambda *arguments: next(taken) and real(*arguments))
        write_atomically(tmp_path / "a", b"x")
        assert (tmp_path / "a").read_bytes() == b"x"


@posix
def test_saving_never_changes_the_umask(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", None)
    for write, name in itertools.product(("save", "write_idx", "CSVLogger"), ("a", "a")):
        WRITERS[write](tmp_path / name)


class TestLogs:
    def fit(self, path, **options):
        model = dl.Sequential([dl.Linear(2, 1)])
        model.compile("sgd", "mse")
        model.fit(numpy.ones((4, 2)), numpy.ones(4), epochs=1, callbacks=[CSVLogger(path, **options)])

    def test_a_line_that_was_cut_short_is_ended_first(self, tmp_path):
        path = tmp_path / "log.csv"
        path.write_bytes(b"epoch,loss\n0,1.2")
        self.fit(path, append=True)
        assert re.fullmatch(r"epoch,loss\n0,1\.2\n0,[\d.]+\n", path.read_text())

    def test_a_file_that_is_no_log_is_left_as_it_is(self, tmp_path):
        path = tmp_path / "log.csv"
        for content in (b"\xff\xfe\0", b"x" * 100_000):
            path.write_bytes(content)
            with pytest.raises(FileFormatError, match="CSVLogger: .*log.csv begins with"):
                self.fit(path, append=True)
            assert path.read_bytes() == content


def test_what_a_checkpoint_would_not_be_able_to_write_is_said_before_the_first_epoch(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "folder").mkdir()
    model = dl.Sequential([dl.Linear(2, 1)])
    model.compile("sgd", "mse")
    before = model[0].weight.value.copy()
    for name, error in [("folder", IsADirectoryError), ("a\0", ParameterError), ("{epoch", ParameterError)]:
        with pytest.raises(error):
            model.fit(numpy.ones((4, 2)), numpy.ones(4), callbacks=[ModelCheckpoint(f"{tmp_path}/{name}")])
    numpy.testing.assert_array_equal(model[0].weight.value, before)


def test_pictures_take_their_format_from_the_name(tmp_path):
    pytest.importorskip("matplotlib")
    image = numpy.zeros((1, 4, 4))
    dl.inspection.save_images(tmp_path / "a", image)
    dl.inspection.save_images(tmp_path / "b.SVG", image)
    assert names(tmp_path) == ["a.png", "b.SVG"]
    assert b"<svg" in (tmp_path / "b.SVG").read_bytes()
    with pytest.raises(ParameterError, match="save_images: .*c.nonsense"):
        dl.inspection.save_images(tmp_path / "c.nonsense", image)
    assert len(names(tmp_path)) == 2
