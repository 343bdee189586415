"""The `plugins` of a spec: Python files that register layers and other types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnnspec.diagnostics import PluginError
from cnnspec.files import real_path
from cnnspec.plugins import Plugin, combined, load, relative
from cnnspec.spec.check import got
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.overrides import FILE as OVERRIDE
from cnnspec.spec.tree import Items, Scalar, Tree, Where, plain

CODE = "plugin"


class Plugins:
    """Runs the plugins that a spec names, if they are trusted; errors go into the findings.

    `given` are plugins that the caller has named; others run only if `trusted` is set. A plugin must lie in the folder
    of the spec's `file` or below, after links are resolved.
    """

    def __init__(self, findings: Findings, file: str, given: Sequence[Plugin], *, trusted: bool) -> None:
        self.findings, self.trusted = findings, trusted
        self.root = Path(file).parent
        self.given = tuple(replace(plugin, name=relative(plugin.path, self.root)) for plugin in given)

    def all(self, tree: Tree, where: Where) -> tuple[Plugin, ...]:
        """Return the given plugins and those of the spec's list; Wrong if one cannot be used."""
        if not isinstance(tree, Items):
            message = f"plugins: expected a list of files, got {got(plain(tree))}"
            raise self.findings.error(CODE, message, tree.span, where, help="write plugins: [layers.py]")
        plugins, bad = list(self.given), False
        for number, item in enumerate(tree.items):
            try:
                plugins = [*self.one(plugins, item, where.down(number))]
            except Wrong:
                bad = True
        if bad:
            raise Wrong
        return tuple(plugins)

    def one(self, before: Sequence[Plugin], item: Tree, where: Where) -> tuple[Plugin, ...]:
        """Return the plugins `before` and the one that an item of the list names."""
        name = plain(item)
        if not isinstance(item, Scalar) or not isinstance(name, str):
            message = f"plugins: expected a file, got {got(name)}"
            raise self.findings.error(CODE, message, item.span, where, help="write plugins: [layers.py]")
        root = self.root
        path = (root if item.span.file == OVERRIDE else Path(item.span.file).parent) / name.replace("\0", "")
        if not real_path(path).is_relative_to(real_path(root)):
            message = f"plugins: {name} lies outside of {real_path(root).name}/, the spec's own folder"
            help = "move the file into the folder of the spec or below, or name it with --plugin instead"
            raise self.findings.error(CODE, message, item.span, where, help=help)
        if path.is_file() and not (self.trusted or real_path(path) in [plugin.path for plugin in self.given]):
            message = f"plugins: {name} was not run: it is a program, and the spec is only read here"
            help = "if you trust it, name it with --plugin, or run all that specs name with --allow-plugins"
            raise self.findings.error(CODE, message, item.span, where, help=help)
        try:
            return combined([*before, load(path, relative(path, root))])
        except PluginError as error:
            raise self.findings.error(CODE, str(error), item.span, where, help=error.help) from error
