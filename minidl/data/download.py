"""Find the files of a data set on this machine, or download and verify them."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minidl.errors import DataError, FileFormatError, ParameterError

__all__ = ["RemoteFile", "find_or_fetch"]

BLOCK = 1 << 18
SECONDS = 30.0


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded: its name, its address, and the SHA-256 of its content."""

    name: str
    url: str
    sha256: str


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
        If a downloaded file is not the published one.
    """
    for place in places(name, folder):
        found = [_find_in(place, file.name) for file in files]
        if all(found):
            return [path for path in found if path is not None]
    target = Path(folder) if folder is not None else cache_folder() / name
    advice = (
        f"put {', '.join(file.name for file in files)} (from {files[0].url.rpartition('/')[0]}) into {target}, or into a "
        f"folder {name} below one listed in the environment variable MINIDL_DATA"
    )
    if not download:
        raise DataError(f"{name}: the files are not on this machine, and download=False; {advice}")
    try:
        return [_find_in(target, file.name) or fetch(file, target) for file in files]
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"{name}: the download failed ({error}); try again, or {advice}") from error


def _find_in(folder: Path, name: str) -> Path | None:
    candidates = [folder / name, folder / name.removesuffix(".gz")]
    return next((path for path in candidates if path.is_file()), None)


def fetch(file: RemoteFile, folder: Path, schemes: tuple[str, ...] = ("https",)) -> Path:
    """Download a file, resuming an earlier attempt; it gets its final name only if its SHA-256 is right."""
    if file.url.partition(":")[0] not in schemes:
        raise ParameterError(f"downloads must use {' or '.join(schemes)}, not {file.url}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{file.name}.part"
    _complete(file.url, partial)
    found = _sha256(partial)
    if found != file.sha256:
        partial.unlink()
        raise FileFormatError(
            f"{file.url}: the download has the SHA-256 {found}, expected {file.sha256}, and was deleted; if this happens again, "
            "the file at that address has changed"
        )
    path = folder / file.name
    partial.replace(path)
    return path


def _complete(url: str, partial: Path) -> None:
    """Append the missing part to the partial file."""
    from tqdm import tqdm  # here, because importing it takes as long as all of minidl.data

    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the partial file is complete
            return
        raise
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = int(length) + (have if resumed else 0) if length else None
        with (
            partial.open("ab" if resumed else "wb") as out,
            tqdm(
                total=total, initial=have if resumed else 0, unit="B", unit_scale=True, desc=partial.stem, disable=None
            ) as bar,
        ):
            while block := response.read(BLOCK):
                out.write(block)
                bar.update(len(block))
    if total is not None and partial.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size} of {total} bytes")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
