"""The base of published data sets: shape, classes and counts are known, and files can be fetched and verified."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from cnnspec.data.download import Watch, download
from cnnspec.data.source import Found, Source
from cnnspec.data.store import MEMORY, Store
from cnnspec.diagnostics import DataError
from cnnspec.shapes import Shape

AGAIN = "delete the file and fetch it again with --download"


class Remote(NamedTuple):
    """A file as its publisher distributes it."""

    name: str
    size: int  # bytes
    sha256: str


class Published(Source):
    """Base of published data sets."""

    own_files = False
    shape: ClassVar[Shape]
    names: ClassVar[tuple[str, ...]]  # names of the classes
    sizes: ClassVar[Mapping[str, int]]  # number of images in train and test
    folders: ClassVar[tuple[str, ...]] = ()  # names of its subfolder, under the root or the cache
    address: ClassVar[str] = ""
    remotes: ClassVar[tuple[Remote, ...]] = ()  # empty for data within the package

    @property
    def image_shape(self) -> Shape:
        """The shape of an image."""
        return self.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of their labels."""
        return self.names

    @property
    def counts(self) -> Mapping[str, int]:
        """The numbers of training and test images."""
        return self.sizes

    def locate(self, root: Path | None) -> list[Path]:
        """Return the paths of the files that `read` needs; DataError if one is missing."""
        return []

    def open(self, paths: list[Path]) -> Found:
        """Read and check the located files."""
        raise NotImplementedError

    def read(self, root: Path | None, download: bool, store: Store = MEMORY) -> Found:
        """Locate the files, download missing ones if that is allowed, then read and check them."""
        try:
            paths = self.locate(root)
        except DataError:
            if not download:
                raise
            self.fetch(None)
            paths = self.locate(root)
        return self.open(paths)

    def fetch(self, root: Path | None, address: str | None = None, watch: Watch | None = None) -> list[Path]:
        """Download missing files from the publisher or a mirror, to a folder under the root or the cache."""
        folder = (root or cache_folder()) / self.folders[0]
        base = (address or self.address).rstrip("/")
        try:
            for remote in self.remotes:
                download(f"{base}/{remote.name}", folder / remote.name, remote.sha256, watch)
        except OSError as error:
            raise DataError(
                f"{error.filename or folder}: cannot be written: {error.strerror}",
                "name another folder with --data DIR",
            ) from error
        return [folder / remote.name for remote in self.remotes]

    def places(self, root: Path | None) -> Iterator[Path]:
        """Yield the folders that are searched for the files, in order."""
        if root is not None:
            yield root
        for base in (root, cache_folder()):
            if base is not None:
                yield from (base / folder for folder in self.folders)

    def missing(self, subject: str, root: Path | None) -> DataError:
        """Return the error that says what was looked for, and in which folders."""
        looked = ", ".join(map(str, self.places(root)))
        return DataError(
            f"{self.type_name}: no {subject} in {looked}",
            "name the folder with --data DIR or data.root, or fetch the files with --download",
        )


def cache_folder() -> Path:
    """Return the folder of downloads: $XDG_CACHE_HOME/cnnspec, or ~/.cache/cnnspec."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnspec"
