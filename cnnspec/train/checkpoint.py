"""Checkpoints: one .npz file without pickles, written whole or not at all."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.files import open_at_once, replacing
from cnnspec.kernels.step import Array
from cnnspec.plan import Training, Weights
from cnnspec.plan.state.parameters import fill
from cnnspec.plan.state.training import AVERAGE
from cnnspec.train.fingerprint import fingerprint
from cnnspec.train.records import PROGRESS, lacking, misfit, parsed

FORMAT = 8
BEST = "best.npz"  # in a run: the checkpoint of its best epoch
LAST = "last.npz"  # and the one with which it continues
MOST_PROGRESS = 16 << 20  # the most bytes of a checkpoint's progress, which it holds beside its arrays
CHECKSUM = "checksum"  # the member with the checksum of all others
UNREADABLE = (EOFError, RuntimeError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of a checkpoint: arrays of the network, slots and averages of training, and its progress."""

    path: Path
    network: Mapping[str, Array]
    slots: Mapping[str, Array]
    progress: Mapping[str, Any]

    @property
    def averages(self) -> dict[str, Array]:
        """The moving averages, as `Training.averages` names them."""
        return {name: array for name, array in self.slots.items() if name.startswith(AVERAGE)}


def write_checkpoint(path: Path, weights: Weights, training: Training | None, progress: Mapping[str, Any]) -> None:
    """Write a checkpoint to a temporary file beside `path`, flush it, rename it; RunError if the system refuses."""
    arrays: dict[str, Array] = {f"network/{name}": array for name, array in weights.arrays()}
    if training is not None:
        arrays |= {f"optimizer/{name}": array for name, array in training.arrays().items()}
    standing = {
        "format": FORMAT,
        "weights": fingerprint(dict(weights.arrays()), {} if training is None else training.averages()),
        "updates": 0 if training is None else training.averaged_states,
    }
    record = json.dumps({**standing, **progress}, sort_keys=True)
    arrays["progress"] = np.frombuffer(record.encode(), np.uint8)
    arrays[CHECKSUM] = np.frombuffer(_checksum(arrays).encode(), np.uint8)
    try:
        with replacing(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise RunError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error


def read_checkpoint(path: Path, most: int | None = None) -> Checkpoint:
    """Read a checkpoint; RunError where it is missing, damaged, no checkpoint, or has more than `most` bytes in it."""
    if not path.is_file():
        raise RunError(
            f"no checkpoint at {path}", "name a run directory made by `cnnspec train`, or an .npz file in one"
        )
    try:
        arrays = _arrays(path, most)
        progress = parsed(arrays["progress"].tobytes())
        wrong = misfit(progress, PROGRESS) or lacking(progress, ("format",))
        if wrong is None and progress["format"] != FORMAT:
            raise RunError(
                f"{path} has format {progress['format']}, this version reads {FORMAT}",
                "read it with the version that wrote it, or train anew",
            )
        wrong = wrong or lacking(progress, ("weights", "updates"))
        if wrong:
            raise ValueError(wrong)
        if arrays.pop(CHECKSUM).tobytes().decode("ascii", "replace") != _checksum(arrays):
            raise ValueError("its checksum is that of another content")
    except (OSError, ValueError, KeyError, *UNREADABLE) as error:
        raise RunError(f"{path} is damaged or no checkpoint: {error}", "use another checkpoint of the run") from error
    checkpoint = Checkpoint(path, _under("network/", arrays), _under("optimizer/", arrays), progress)
    _check_weights(checkpoint)
    _check_best(checkpoint)
    return checkpoint


def _check_best(checkpoint: Checkpoint) -> None:
    """Raise RunError if the file of the best checkpoint belongs to another epoch or another training.

    The best epoch is the later one that this file and the last checkpoint name: that is written after this file. Part
    of an epoch may be better than the best whole epoch before it.
    """
    own, step = checkpoint.progress, checkpoint.progress.get("step")
    if checkpoint.path.name != BEST or step is None:
        return
    last = progress_of(checkpoint.path.with_name(LAST))
    if "spec" in last and own.get("spec") != last["spec"]:
        raise RunError(
            f"{checkpoint.path} and {LAST} beside it are of two trainings", "put back what the training wrote"
        )
    said = (own.get("best"), last.get("best"))
    best = max((one[-1] for one in said if one), default=step)
    if best > step or (best < step and not own.get("part")):
        raise RunError(
            f"{checkpoint.path} is the checkpoint behind step {step:,}, the best one was behind step {best:,.0f}",
            "put back what the training wrote, or ask for --checkpoint last",
        )


def progress_of(path: Path) -> Mapping[str, Any]:
    """Return the progress in a checkpoint without reading its arrays; empty if it cannot be read."""
    try:
        if not path.is_file():
            return {}
        with open_at_once(path) as content, zipfile.ZipFile(content) as archive:
            member = archive.getinfo("progress.npy")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > MOST_PROGRESS:
                return {}
            found = parsed(_array(archive.read(member)).tobytes())
    except (OSError, ValueError, KeyError, *UNREADABLE):
        return {}
    return {} if misfit(found, PROGRESS) else dict(found)


def superseded(path: Path, about: Mapping[str, Any]) -> str | None:
    """Say that the last checkpoint of a run is older than one that the training had written; None if it is not.

    `about` is the content of run.json, which is written after a checkpoint: no crash leaves an older checkpoint.
    """
    written = about.get("checkpoint")
    if path.name != LAST or written is None:
        return None
    step = progress_of(path).get("step")
    if step is None or step >= written:
        return None
    return f"{path} is the checkpoint behind step {step:,}; the training had written one behind step {written:,}"


def _check_weights(checkpoint: Checkpoint) -> None:
    """Raise RunError if the weights do not match their fingerprint in the checkpoint, or are not finite."""
    got, expected = fingerprint(checkpoint.network, checkpoint.averages), checkpoint.progress["weights"]
    if got != expected:
        raise RunError(
            f"{checkpoint.path} was changed: expected weights {expected}, got {got}",
            "resume from another checkpoint of the run, or train anew",
        )
    for name, array in {**checkpoint.network, **checkpoint.averages}.items():
        if not np.isfinite(array).all():
            raise RunError(f"{checkpoint.path}: {name} is not finite", "use another checkpoint of the run")


def _checksum(arrays: Mapping[str, Array]) -> str:
    """The SHA-256 of all arrays with their names, types and shapes; one of them holds the progress."""
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def most_bytes(weights: Weights, training: Training | None) -> int:
    """The most bytes that a checkpoint of this network has: arrays and slots, and a margin for names and progress."""
    arrays = [array for _, array in weights.arrays()] + ([] if training is None else [*training.arrays().values()])
    return sum(array.nbytes for array in arrays) + 4096 * (2 + len(arrays)) + MOST_PROGRESS


def _arrays(path: Path, most: int | None) -> dict[str, Array]:
    """All arrays of a file, read-only; never more bytes than the file is long, whatever sizes it claims."""
    with open_at_once(path) as content, zipfile.ZipFile(content) as archive:
        members = archive.infolist()
        # The archive's directory lists sizes, so that a file too large for the network is refused unread.
        size, length = sum(member.file_size for member in members), path.stat().st_size
        if most is not None and max(size, length) > most:
            raise ValueError(f"expected at most {most:,} bytes of arrays, got {max(size, length):,}")
        if size > length or any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError(f"expected uncompressed arrays within {length:,} bytes, got {size:,}")
        # NumPy evaluates array headers; it gets them after `read` has verified the member's checksum.
        return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(content: bytes) -> Array:
    """The array of an .npy file in memory; ValueError if its header does not match the content."""
    stream = BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"expected arrays of NumPy's format 1.0, got {version[0]}.{version[1]}")
    try:
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # tokenize and ast raise what they like on a damaged header
        raise ValueError(f"an array's header cannot be read: {error}") from error
    if dtype.kind not in "fu":
        raise ValueError(f"expected arrays of numbers, got {dtype}; pickled objects are never read")
    values: Array = np.frombuffer(content, dtype, offset=stream.tell())
    return values.reshape(shape, order="F" if columns_first else "C")


def restore(checkpoint: Checkpoint, weights: Weights, training: Training | None) -> None:
    """Copy a checkpoint's values to the weights and the training; RunError if they are those of another network.

    Without a training the weights become those that are scored: the moving averages, if there are any.
    """
    try:
        _check_types(checkpoint.network, dict(weights.arrays()))
        if training is not None:
            _check_types(checkpoint.slots, training.arrays())
        weights.load(checkpoint.network)
        if training is not None:
            fill(training.arrays(), checkpoint.slots)
            training.clock[...] = checkpoint.progress["step"]
        elif checkpoint.averages and checkpoint.progress["updates"]:
            moving = weights.averaged_in(weights.values, weights.statistics)
            fill({f"{AVERAGE}{name}": array for name, array in moving.items()}, checkpoint.averages)
    except (KeyError, ValueError) as error:
        difference = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(
            f"{checkpoint.path} does not fit this network: {difference}", "use the spec it was trained with"
        ) from error


def _check_types(arrays: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Raise ValueError if a value would have to be converted, which changes it."""
    for name, array in expected.items():
        if arrays[name].dtype != array.dtype:
            raise ValueError(f"{name}: expected {array.dtype}, got {arrays[name].dtype}")


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
