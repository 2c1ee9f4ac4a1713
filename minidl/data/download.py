"""Find the files of a data set on this machine, or download and verify them."""

from __future__ import annotations

import functools
import hashlib
import http.client
import logging
import os
import re
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from minidl.errors import DataError, FileFormatError, MinidlError, ParameterError
from minidl.weights.files import atomic_file, lock, same_file, sync_folder

__all__ = ["RemoteFile", "find_or_fetch"]

BLOCK = 1 << 18
SECONDS = 30.0
PATIENCE = 2 * SECONDS
"""Seconds to wait for another process's download that does not grow."""
LARGEST = 1 << 30
"""Bytes to take at most of a file whose size is not known beforehand."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded: its name, its address, the SHA-256 of its content and, if known, its size in bytes."""

    name: str
    url: str
    sha256: str
    size: int | None = None


def cache_folder() -> Path:
    """Return the folder of downloads: ``minidl`` in the user's cache of the operating system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "minidl"


def places(name: str, folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folders in which to look for a data set, in order.

    A given folder is the only one. Otherwise these are the folders in MINIDL_DATA, the user's cache, and the folders where
    systems install data sets. In each of them a folder with the name of the data set comes before the folder itself.
    """
    if folder is not None:
        bases = [Path(folder)]
    else:
        listed = [Path(part) for part in os.environ.get("MINIDL_DATA", "").split(os.pathsep) if part]
        shared = {Path(prefix) / "share" / "datasets": None for prefix in (sys.prefix, "/usr/local", "/usr")}
        bases = [*listed, cache_folder(), *shared]
    for base in bases:
        yield base / name
        yield base


def find_or_fetch(
    name: str, files: Sequence[RemoteFile], folder: str | os.PathLike[str] | None = None, download: bool = True
) -> list[Path]:
    """Return the paths of a data set's files, all in one folder; download missing files if allowed.

    Files that are found are compared with the published ones, once for each process. In the folder of downloads, a
    damaged file is downloaded again. Elsewhere, systems install files that they compressed anew: they are taken with a line
    in the log, and their readers check what is in them.

    Parameters
    ----------
    name : str
        The name of the data set and of its folder.
    files : sequence of RemoteFile
        A file without the ``.gz`` of its name is found too.
    folder : path, optional
        The only folder to look in and to download to.
    download : bool, default True
        Whether to download missing files.

    Raises
    ------
    DataError
        If files are missing and may not, or cannot, be downloaded. Says which files to put where.
    FileFormatError
        If a downloaded file is not the published one, or a file in ``folder`` is not and could be downloaded.
    """
    target = Path(folder) if folder is not None else cache_folder() / name
    for place in places(name, folder):
        found = [_find_in(place, file.name) for file in files]
        if all(found):
            paths = [path for path in found if path is not None]
            other = [path for path, file in zip(paths, files, strict=True) if not _is_published(path, file)]
            if other and download and place == target:
                continue  # to where they are downloaded
            level = logging.WARNING if place == target else logging.INFO
            for path in other:
                logging.getLogger(__name__).log(level, "%s is not the published file, by its size or its SHA-256", path)
            return paths
    advice = (
        f"put {', '.join(file.name for file in files)} (from {files[0].url.rpartition('/')[0]}) into {target}, or into a "
        f"folder {name} below one listed in the environment variable MINIDL_DATA"
    )
    if not download:
        raise DataError(f"{name}: the files are not on this machine, and download=False; {advice}")
    try:
        return [_kept(target, file, own=folder is None) or fetch(file, target) for file in files]
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"{name}: the download failed ({error}); try again, or {advice}") from error


def _find_in(folder: Path, name: str) -> Path | None:
    candidates = [folder / name, folder / name.removesuffix(".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _kept(folder: Path, file: RemoteFile, own: bool) -> Path | None:
    """Return a file that need not be downloaded; None if it is missing, or damaged in the folder of our downloads.

    Raises
    ------
    FileFormatError
        If it is damaged in a folder that the caller gave: it may be the caller's, so it is not replaced.
    """
    path = _find_in(folder, file.name)
    if path is None or _is_published(path, file):
        return path
    if own:
        return None
    raise FileFormatError(
        f"{path} is not the file at {file.url}: its SHA-256 is {_sha256(path)}, expected {file.sha256}; delete it to download "
        "it, or read it all the same with download=False"
    )


def _is_published(path: Path, file: RemoteFile) -> bool:
    """Return whether a file is the published one, as far as that can be told: not of one that was decompressed."""
    if path.name != file.name:
        return True
    found = path.stat()
    if file.size not in (None, found.st_size):
        return False
    return _known_sha256(path, found.st_size, found.st_mtime_ns, found.st_ino) == file.sha256


@functools.lru_cache(maxsize=64)
def _known_sha256(path: Path, *status: int) -> str:
    """Return the SHA-256 of a file, computed once as long as its status stays the same."""
    return _sha256(path)


def fetch(file: RemoteFile, folder: Path, schemes: tuple[str, ...] = ("https",)) -> Path:
    """Download a file, resuming an earlier attempt; it gets its final name only if its SHA-256 is right.

    Of several processes, one downloads and the others wait for it. Where files cannot be locked, or nothing has arrived
    for a minute, each downloads for itself.

    Raises
    ------
    ParameterError
        If the address has none of the schemes.
    FileFormatError
        If it is not the published file.
    ConnectionError, URLError, TimeoutError
        If the download failed; the next attempt continues it.
    OSError
        If the file cannot be written.
    """
    if file.url.partition(":")[0] not in schemes:
        raise ParameterError(f"downloads must use {' or '.join(schemes)}, not {file.url}")
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(os.path.realpath(folder / file.name))
    partial = path.with_name(f"{path.name}.part")
    out = _claim(partial)
    if out is None:
        with atomic_file(path) as own:
            _download(file, own, schemes)
        return path
    with out:
        try:
            if path.is_file() and _is_published(path, file):  # by another process, meanwhile
                partial.unlink()
                return path
            _download(file, out, schemes)
        except FileFormatError:
            partial.unlink()
            raise
        os.fsync(out.fileno())
        partial.replace(path)
    sync_folder(path.parent)
    return path


def _claim(partial: Path) -> BinaryIO | None:
    """Open and lock the partial file, waiting for another process that downloads into it; None if that cannot be done."""
    more = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # neither links nor pipes
    started = time.time()
    while True:
        try:
            out: BinaryIO = open(partial, "r+b", opener=lambda path, flags: os.open(path, flags | more, 0o666))  # noqa: SIM115
        except OSError:
            return None
        found = os.fstat(out.fileno())
        try:
            if stat.S_ISREG(found.st_mode) and lock(out.fileno()) and same_file(out.fileno(), partial):
                return out
        except OSError:  # files cannot be locked here
            out.close()
            if not found.st_size:
                partial.unlink(missing_ok=True)
            return None
        out.close()
        if not stat.S_ISREG(found.st_mode) or time.time() - max(started, found.st_mtime) > PATIENCE:
            return None
        time.sleep(0.05)


def _download(file: RemoteFile, out: IO[bytes], schemes: tuple[str, ...]) -> None:
    """Complete a partial file, or begin again if what it held was of something else.

    Raises
    ------
    FileFormatError
        If the result is not the published file.
    """
    found = ""
    for have in (out.seek(0, os.SEEK_END), 0):
        if file.size is None or have < file.size:
            _transfer(file, out, have, schemes)
        out.flush()
        found = _sha256(out.name)
        if found == file.sha256:
            return
        if not have:
            break
    raise FileFormatError(
        f"{file.url}: the download has the SHA-256 {found}, expected {file.sha256}, and was deleted; if this happens again, "
        "the file at that address has changed"
    )


def _transfer(file: RemoteFile, out: IO[bytes], have: int, schemes: tuple[str, ...]) -> None:
    """Write what follows the first ``have`` bytes of a file; all of it if the server does not continue there.

    Raises
    ------
    FileFormatError
        If there is more than the published file has.
    DataError
        If the address leads to one without these schemes.
    ConnectionError, URLError, TimeoutError
        If the download failed.
    """
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        try:
            response = urllib.request.urlopen(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if have and error.code == 416:  # there is nothing after what we have
                return
            raise
        with response:
            if response.url.partition(":")[0] not in schemes:
                raise DataError(f"{file.url} leads to {response.url}; downloads must use {' or '.join(schemes)}")
            _receive(file, out, response, _first_byte(response, have))
    except MinidlError:
        raise
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"{file.url}: the server's answer cannot be read: {error!r}") from error


def _first_byte(response: Any, have: int) -> int:
    """Return where in the file the answer begins.

    Raises
    ------
    ConnectionError
        If that is neither at the start nor where it was asked to begin.
    """
    if response.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or f"bytes {have}-")
    if found is None or int(found[1]) not in (0, have):
        raise ConnectionError(f"the server was asked for the bytes from {have} on and answered {found}")
    return int(found[1])


def _receive(file: RemoteFile, out: IO[bytes], response: Any, start: int) -> None:
    """Write the answer from ``start`` on, and never more than the file may have."""
    from tqdm import tqdm  # here, because importing it takes as long as all of minidl.data

    limit = LARGEST if file.size is None else file.size
    length = response.headers.get("Content-Length") or ""
    total = start + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else file.size
    too_much = f"{file.url}: the file is larger than {limit} bytes, and the download was deleted"
    if total is not None and total > limit:
        raise FileFormatError(f"{too_much}; the server announces {total}")
    out.seek(start)
    out.truncate()
    done = start
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=file.name, disable=None) as bar:
        while block := response.read(min(BLOCK, limit + 1 - done)):
            done += len(block)
            if done > limit:
                raise FileFormatError(too_much)
            out.write(block)
            bar.update(len(block))
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _sha256(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
