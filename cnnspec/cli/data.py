"""`data list | fetch | verify | show`: lists data sets, fetches them, verifies their files, and shows their images."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cnnspec import registry
from cnnspec.cli import CLEAN, FAILED, USAGE
from cnnspec.cli.arguments import add_plugins
from cnnspec.cli.data_show import show, statistics_text
from cnnspec.cli.output import complain, visible
from cnnspec.data import DataSettings, Published, Source, cache_folder, root_of
from cnnspec.diagnostics import DataError, loggable
from cnnspec.fields import options
from cnnspec.plugins import load_all, using
from cnnspec.spec import load
from cnnspec.spec.suggest import did_you_mean

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("action", choices=("list", "fetch", "verify", "show"), help="what to do")
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="*",
        help="names such as mnist; verify takes spec files too (default: all that are here), and show takes one",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"where to look, and to fetch to ({cache_folder()})")
    parser.add_argument(
        "--mirror", type=address, metavar="URL", help="fetch from this address instead of the publisher's"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where show draws some images (default: NAME-data.png)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a source")
    add_plugins(parser)
    parser.set_defaults(download=False)  # `fetch` downloads them


def address(text: str) -> str:
    """Parse the address of a folder, on a server or on this machine."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https", "file") or not (parts.netloc or parts.path):
        raise argparse.ArgumentTypeError(f"expected an address such as https://example.org/mnist, got '{text}'")
    return text


def run(arguments: argparse.Namespace) -> int:
    """List, fetch, verify or show data; return 4 if a source is not available or damaged."""
    with using(load_all(arguments.plugins)):
        return _act(arguments)


def _act(arguments: argparse.Namespace) -> int:
    act = {"list": _list, "fetch": _fetch, "verify": _verify, "show": show}[arguments.action]
    known = registry.table("source")
    if act is show and not (len(arguments.sources) == 1 and _is_spec(arguments.sources[0])):
        return _misused("show takes one spec file", "cnnspec data show spec.yaml")
    takes_names = act in (_verify, show)
    unknown = [name for name in arguments.sources if name not in known and not (takes_names and _is_spec(name))]
    if unknown:
        return _misused(f"unknown source '{unknown[0]}'", did_you_mean(unknown[0], known, "sources"))
    names = arguments.sources or (list(known) if act is _list else _present(arguments.data) if act is _verify else [])
    if not names:
        return _misused(f"{arguments.action} what?", "name a source; `cnnspec data list` shows which there are")
    failed = False
    for name in names:
        try:
            row = act(name, arguments)
        except DataError as error:
            failed, row = True, {"source": name, "state": "failed", "message": str(error), "help": error.help}
        print(json.dumps(row) if arguments.json else statistics_text(row) if row["state"] == "shown" else _line(row))
    return FAILED if failed else CLEAN


def _misused(message: str, help: str) -> int:
    complain(message, help)
    return USAGE


def _is_spec(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _present(root: Path | None) -> list[str]:
    """Return the names of the published data sets whose files are on this machine."""
    present = []
    for name, cls in registry.table("source").items():
        if issubclass(cls, Published) and cls.remotes:
            with suppress(DataError):
                cls().locate(root)
                present.append(name)
    return present


def _list(name: str, arguments: argparse.Namespace) -> Row:
    cls = registry.find("source", name)
    description = (cls.__doc__ or "").split("\n")[0]
    if not issubclass(cls, Published):
        needed = [option.name for option in options(cls) if option.required]
        return {"source": name, "state": f"needs {', '.join(needed)}" if needed else "yours", "about": description}
    if not cls.remotes:
        return {"source": name, "state": "built in", "about": description}
    source = cls()
    total = sum(remote.size for remote in source.remotes)
    try:
        paths = source.locate(arguments.data)
    except DataError:
        return {"source": name, "state": "missing", "download_bytes": total, "about": description}
    size = sum(path.stat().st_size for path in paths)
    return {"source": name, "state": "present", "folder": str(paths[0].parent), "bytes": size, "about": description}


def _fetch(name: str, arguments: argparse.Namespace) -> Row:
    source = _published(name)
    paths = source.fetch(arguments.data, arguments.mirror, _watch if sys.stderr.isatty() else None)
    size = sum(path.stat().st_size for path in paths)
    return {"source": name, "state": "present", "folder": str(paths[0].parent), "bytes": size}


def _watch(name: str, size: int, total: int | None) -> None:
    share = f" {size / total:4.0%}" if total else ""
    end = "\n" if size == total else ""
    print(f"\r{name}{share} {_megabytes(size)}", end=end, file=sys.stderr, flush=True)


def _verify(name: str, arguments: argparse.Namespace) -> Row:
    root = arguments.data
    if _is_spec(name):
        spec = load(name, plugins=arguments.plugins, allow_plugins=arguments.allow_plugins)
        settings = spec.data
        if settings is None:
            raise DataError(f"{name} has no data section", "add data: {source: digits}")
        root = root or root_of(settings, spec.base)
    else:
        settings = DataSettings.of(source=_published(name))
    source: Source = settings.source
    data = source.read(root, False)
    images = {split: len(images.labels) for split, images in data.splits.items()}
    return {
        "source": name,
        "state": "in part" if data.notes else "whole",
        "images": images,
        "classes": len(data.class_names),
        "sha256": dict(data.checksums),
        "notes": list(data.notes),
    }


def _published(name: str) -> Published:
    cls = registry.find("source", name)
    if not issubclass(cls, Published):
        raise DataError(f"{name} is no published data set", "verify the spec that uses it: cnnspec data verify SPEC")
    if not cls.remotes:
        raise DataError(f"{name} comes with the package", "there is nothing to fetch or to verify")
    return cls()


def _line(row: Row) -> str:
    """Return a row as text: the source, its state, and the details of that state."""
    text = f"{row['source']:<14} {row['state']:<10}"
    if "message" in row:
        error = f"{loggable(row['source'])}: error: {loggable(row['message'])}"
        return error + (f"\nhelp: {visible(row['help'])}" if row["help"] else "")
    if "images" in row:
        counts = ", ".join(f"{count:,} {split}" for split, count in row["images"].items())
        lines = [f"{text} {counts} images in {row['classes']} classes"]
        lines += [f"  {sum}  {loggable(file)}" for file, sum in row["sha256"].items()]
        return "\n".join([*lines, *(f"  note: {loggable(note)}" for note in row["notes"])])
    if "folder" in row:
        text += f" {_megabytes(row['bytes'])} in {loggable(row['folder'])}"
    elif "download_bytes" in row:
        text += f" {_megabytes(row['download_bytes'])} to fetch"
    return text if "folder" in row or "about" not in row else f"{text} {row['about']}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
