"""Reads a spec as it was at a revision of its git repository."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cnnspec.diagnostics import RunError, SpecError
from cnnspec.files import real_path
from cnnspec.spec import Spec

MOST_BYTES = 1 << 20  # bytes of a file in the repository that is read


def spec_at(revision: str, path: Path, read: Callable[[Path], Spec]) -> Spec:
    """Return a spec as it was at a revision, with the files that it extends, from a temporary copy of its folder.

    Raises RunError if git does not know the revision or has no such file there, SpecError for a wrong spec.
    """
    if revision.startswith("-"):  # git would take it for one of its options
        raise RunError(f"'{revision}' is no revision: it begins with a dash", "name a commit, a branch or a tag")
    command = ["git", "-C", str(real_path(path).parent), "archive", "--format=tar", revision, "."]
    with TemporaryDirectory() as folder:
        old = Path(folder) / path.name
        fault = _extract(command, folder)
        if not old.is_file():
            reason = fault.strip().removeprefix("fatal: ") or "it is not there"
            raise RunError(f"git cannot show {path} at {revision}: {reason}", "name a revision that has the file")
        try:
            return read(old)
        except SpecError as error:
            near = f"{revision}:{path.parent}"
            spans = [replace(d.span, file=d.span.file.replace(folder, near)) for d in error.diagnostics]
            diagnostics = [replace(d, span=span) for d, span in zip(error.diagnostics, spans, strict=True)]
            raise SpecError(diagnostics) from error


def _extract(command: list[str], folder: str) -> str:
    """Unpack the archive that a command writes, without files too large for a spec; return its error output."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise RunError("git is not installed", "compare two files instead") from error
    with process:
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                _unpack(archive, real_path(Path(folder)))
        except tarfile.TarError:
            pass  # the archive is empty, and the command has printed an error
        return process.stderr.read().decode(errors="replace")


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Write the files, folders and links of an archive, but none outside the folder, and no link that leads there.

    The filters of `tarfile`, which do the same, are not in Python 3.11.0 to 3.11.3.
    """
    for member in archive:
        path = folder / member.name
        end = path.parent / member.linkname if member.issym() else path
        if not all(real_path(place).is_relative_to(folder) for place in (path.parent, end)):
            continue
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.issym():
            path.symlink_to(member.linkname)
        elif member.isreg() and member.size <= MOST_BYTES:
            content = archive.extractfile(member)
            assert content is not None  # only links and folders have none
            path.write_bytes(content.read())
