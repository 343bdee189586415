"""Reads a file into a typed Spec."""

from __future__ import annotations

import re
import sys
from collections import abc
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.diagnostics import Fix, SpecError
from cnnspec.diagnostics.source import GIVEN
from cnnspec.fields import (
    BYTES_PATTERN,
    COUNT_PATTERN,
    Count,
    NonNegativeInt,
    PositiveInt,
    convert,
    parse_bytes,
    parse_count,
)
from cnnspec.plugins import load_all, using
from cnnspec.shapes import Shape, size
from cnnspec.spec.arriving import Unknown
from cnnspec.spec.check import got
from cnnspec.spec.expand import filled, variables
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.grammar import LONGEST as LONGEST_NAME
from cnnspec.spec.grammar import NAME_WORDS, is_name, name_of
from cnnspec.spec.inherit import inherit
from cnnspec.spec.layers import LayersBuilder
from cnnspec.spec.model import Budget, Requirement, Spec, Variant, with_value
from cnnspec.spec.names import INPUT, LayerNames
from cnnspec.spec.overrides import override
from cnnspec.spec.place import Place
from cnnspec.spec.plugins import Plugins
from cnnspec.spec.reader import MOST_BYTES, decode, read, read_text
from cnnspec.spec.spelling import comparison, shape
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, place_of, plain
from cnnspec.spec.typed import Typing
from cnnspec.target import FIGURES

if TYPE_CHECKING:
    from cnnspec.data.settings import DataSettings
    from cnnspec.optim.settings import TrainSettings
    from cnnspec.spec.sweep import Sweep

VERSION = 1
STDIN = "<stdin>"  # the file name for standard input in diagnostics
KEYS = (
    "cnnspec",
    "plugins",
    "name",
    "seed",
    "portable",
    "input",
    "inputs",
    "layers",
    "data",
    "train",
    "expect",
    "require",
    "sweep",
    "vars",
    "blocks",
    "extends",
)
BUDGETS = ("params", "trained_params", "macs", "output", "train_memory", "infer_memory")
MEASURED = tuple(dict.fromkeys(figure for figures in FIGURES.values() for figure in figures))
SCORED = ("validation", "test")
METRICS = (
    "train.loss",
    "train.accuracy",
    *(f"{split}.{what}" for split in SCORED for what in MEASURED),
)
LONGEST = 50  # characters of a comparison
_COMPARISON = re.compile(r"\s*(>=|<=|==|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def load(
    path: str | Path,
    overrides: abc.Sequence[str] = (),
    *,
    allow_outside: bool = False,
    plugins: abc.Sequence[str | Path] = (),
    allow_plugins: bool = False,
) -> Spec:
    """Read and check a file, or standard input for "-"; SpecError with all errors, OSError if it is unreadable.

    `overrides` are PATH=VALUE; `extends` may lead out of the file's folder only if `allow_outside` is set. `plugins`
    are files that register types; plugins named in the spec itself run only if they are among them, or if
    `allow_plugins` is set. PluginError if one of `plugins` cannot be used.
    """
    if str(path) == "-":
        name = STDIN
        text = GIVEN[name] = decode(sys.stdin.buffer.read(MOST_BYTES + 1), name)
    else:
        name = str(path)
        text = read_text(path, name)
    return loads(text, name, overrides, allow_outside=allow_outside, plugins=plugins, allow_plugins=allow_plugins)


def loads(
    text: str,
    name: str = "<text>",
    overrides: abc.Sequence[str] = (),
    *,
    allow_outside: bool = False,
    plugins: abc.Sequence[str | Path] = (),
    allow_plugins: bool = False,
) -> Spec:
    """Read and check a text as `load` does a file; `name` is the file that diagnostics name."""
    tree = override(inherit(read(text, name), name, outside=allow_outside), overrides)
    return typed(tree, name, plugins=plugins, allow_plugins=allow_plugins)


def typed(tree: Tree, name: str, *, plugins: abc.Sequence[str | Path] = (), allow_plugins: bool = False) -> Spec:
    """Return the spec of a tree, after `extends` and all overrides; arguments and errors are those of `loads`."""
    given = load_all(plugins)
    findings = Findings()
    if not isinstance(tree, Mapping):
        findings.error("invalid-value", f"expected a mapping, got {got(plain(tree))}", tree.span, Where())
        raise SpecError(findings.diagnostics)
    reader = Plugins(findings, name, given, trusted=allow_plugins)
    spec = _SpecLoader(findings, tree, name).spec(reader)
    errors = [diagnostic for diagnostic in findings.diagnostics if diagnostic.severity == "error"]
    if errors or spec is None:
        raise SpecError(findings.diagnostics)
    return spec


class _SpecLoader:
    def __init__(self, findings: Findings, tree: Mapping, file: str) -> None:
        self.findings, self.tree, self.file = findings, tree, file
        self.scope = variables(tree.get("vars"), findings)
        self.typing = Typing(findings, self.scope.values)
        self.misspelt = self.typing.known_keys(tree, KEYS, Where(), "key", "spec key")
        self.places: dict[str, Place] = {}
        self.losses: tuple[str, ...] = ()  # the names of several losses

    def spec(self, reader: Plugins) -> Spec | None:
        """Build the spec; None if it has an error."""
        plugins = self.part("plugins", reader.all, default=reader.given)
        with using(plugins or ()):
            spec = self.parts()
        if plugins is None:  # a plugin that was not run would have registered the types
            self.findings.drop("unknown-type")
        return spec and replace(spec, plugins=plugins)

    def parts(self) -> Spec | None:
        """Build the spec without its plugins, which are registered already; None if it has an error."""
        self.version()
        inputs = self.part("inputs", self.inputs, default={})
        shape = self.part("input", self.input, default=... if inputs == {} else None)
        name = self.part("name", self.text, default=name_of(self.file))
        seed = self.part("seed", lambda tree, where: self.typing.value(NonNegativeInt, tree, where), default=0)
        portable = self.part("portable", lambda tree, where: self.typing.value(bool, tree, where), default=False)
        layers = self.layers(shape, inputs or {})
        data = self.part("data", self.data, default=None)
        train = self.part("train", self.train, default=None)
        expect = self.part("expect", self.expect, default={})
        require = self.part("require", self.require, default=())
        right = self.is_right()
        sweep, domains = self.sweep()
        shape = (sum(map(size, inputs.values())),) if inputs else shape
        if shape is None or not right:
            return None
        right = self.is_right()
        variants = self.variants(domains)
        if not right:
            return None
        self.unused()
        return Spec(
            name=name,
            seed=seed,
            portable=portable,
            input=shape,
            layers=layers,
            place=place_of(self.tree, Where()),
            sections=self.places,
            data=data,
            train=train,
            expect=expect,
            require=require,
            sweep=sweep,
            variants=variants,
            inputs=inputs,
            path=self.file,
            warnings=tuple(self.findings.diagnostics),
        )

    def part(self, key: str, build: Any, default: Any = ...) -> Any:
        """Build one top-level key with variables filled in; the default if it is missing or null, None if wrong."""
        tree = self.tree.get(key)
        if tree is None or plain(tree) is None:
            if default is ...:
                self.missing(key)
                return None
            return default
        where = Where(key)
        try:
            tree = filled(tree, self.scope, self.findings, where)
            self.note(tree, where)
            return build(tree, where)
        except Wrong:
            return None

    def note(self, tree: Tree, where: Where) -> None:
        """Record the places of a section and of the sections in it."""
        if isinstance(tree, Mapping):
            self.places[where.path] = place_of(tree, where)
            for key, value in tree.values.items():
                self.note(value, where.down(key))

    def missing(self, key: str) -> None:
        if key in self.misspelt or "extends" in self.misspelt:
            return
        example = {"cnnspec": "1", "input": "[1, 28, 28]", "layers": "[...]"}[key]
        self.findings.error("missing-key", f"{key} is missing", self.tree.span, Where(), help=f"add {key}: {example}")

    def version(self) -> None:
        tree = self.tree.get("cnnspec")
        if tree is None:
            self.missing("cnnspec")
        elif plain(tree) != VERSION or isinstance(plain(tree), (bool, float)):
            self.findings.error(
                "unsupported-version",
                f"cnnspec: expected {VERSION}, got {got(plain(tree))}",
                tree.span,
                Where("cnnspec"),
                help=f"write cnnspec: {VERSION}; this program reads no other version",
            )

    def text(self, tree: Tree, where: Where) -> str:
        value = plain(tree)
        if not isinstance(value, str) or not is_name(value):
            help, fix = self.typing.cure("name", tree, lambda other: isinstance(other, str) and is_name(other))
            message = f"name: expected at most {LONGEST_NAME} {NAME_WORDS}, got {got(value)}"
            help = help or "the name becomes the name of the run directory"
            raise self.findings.error("invalid-value", message, tree.span, where, help=help, fix=fix)
        return value

    def inputs(self, tree: Tree, where: Where) -> abc.Mapping[str, Shape]:
        """Return the shapes of several inputs by name."""
        mapping = self.mapping(tree, where)
        if "input" in self.tree.values:
            message, help = "expected input or inputs, got both", "write input as one of inputs, with a name"
            raise self.findings.error("invalid-value", message, self.tree.keys["inputs"], where, help=help)
        if not mapping.values:
            help = "write inputs: {image: [1, 28, 28], age: [1]}"
            message = "inputs: expected at least one input by name, got none"
            raise self.findings.error("invalid-value", message, tree.span, where, help=help)
        for name, span in mapping.keys.items():
            if not is_name(name) or "." in name or name == INPUT:
                message = f"inputs: expected letters, digits, dashes and underscores, got {got(name)}"
                message = f"inputs: '{INPUT}' is reserved: it is the first of them" if name == INPUT else message
                help = "layers read it by its name"
                self.findings.error("invalid-value", message, span, where.down(name), help=help)
        return {name: self.input(value, where.down(name)) for name, value in mapping.values.items()}

    def input(self, tree: Tree, where: Where) -> tuple[int, ...]:
        items = tree.items if isinstance(tree, Items) else ()
        text = shape(plain(tree))
        if len(items) not in (1, 3) or isinstance(plain(items[0]), str):
            raise self.findings.error(
                "invalid-value",
                f"{where.path}: expected [channels, height, width] or [features], got {got(plain(tree))}",
                tree.span,
                where,
                help=f"write {text}" if text else "write its sizes without a batch axis, such as [1, 28, 28] or [784]",
            )
        return tuple(self.typing.value(PositiveInt, item, where) for item in items)

    def layers(self, shape: Shape | None, inputs: abc.Mapping[str, Shape]) -> tuple[Any, ...]:
        tree = self.tree.get("layers")
        blocks = self.tree.get("blocks")
        if blocks is not None and not isinstance(blocks, Mapping):
            self.findings.error("invalid-value", "blocks: expected a mapping of names to blocks", blocks.span, Where())
            blocks = None
        for name, span in blocks.keys.items() if isinstance(blocks, Mapping) else ():
            if not is_name(name):
                message = f"blocks: expected at most {LONGEST_NAME} {NAME_WORDS}, got {got(name)}"
                help = "layers of the block are named after it"
                self.findings.error("invalid-value", message, span, Where("blocks").down(name), help=help)
        if tree is None:
            self.missing("layers")
            return ()
        builder = LayersBuilder(self.findings, blocks, self.scope)
        self.blocks = builder.blocks
        names = LayerNames(next(iter(inputs.values()), shape) or Unknown())
        named = self.tree.get("inputs")
        for name, span in named.keys.items() if isinstance(named, Mapping) else ():
            names.ids[name] = span
            builder.known(name, inputs.get(name) or Unknown())
        entries = builder.entries(tree, self.scope, names, Where("layers"))
        if isinstance(tree, Items) and not tree.items:
            self.findings.error("invalid-value", "layers: expected at least one layer", tree.span, Where("layers"))
        return entries

    def data(self, tree: Tree, where: Where) -> DataSettings:
        from cnnspec.data.settings import DataSettings  # all data sources, which a spec without data does not need

        settings: DataSettings = self.typing.section(DataSettings, tree, where)
        return settings

    def train(self, tree: Tree, where: Where) -> TrainSettings:
        from cnnspec.optim.settings import TrainSettings  # all optimizers, which a spec without training does not need

        if isinstance(tree, Mapping) and "loss" in tree.values and "losses" in tree.values:
            message, help = "train: expected loss or losses, got both", "write loss as one of losses, with a name"
            raise self.findings.error("invalid-value", message, tree.keys["losses"], where.down("losses"), help=help)
        settings: TrainSettings = self.typing.section(TrainSettings, tree, where)
        self.losses = tuple(settings.losses or ())
        return settings

    def is_right(self) -> bool:
        """Whether no error was found so far."""
        return all(diagnostic.severity != "error" for diagnostic in self.findings.diagnostics)

    def sweep(self) -> tuple[Sweep | None, dict[str, Tree]]:
        """Build the sweep section, None if it is missing or wrong; also return what its paths may be.

        Variables in its values are filled in when each value is put in place.
        """
        from cnnspec.spec.sweep import read_sweep  # all losses, which a spec without a sweep does not need

        tree = self.tree.get("sweep")
        if tree is None or plain(tree) is None:
            return None, {}
        self.note(tree, Where("sweep"))
        return read_sweep(self.typing, tree, Where("sweep"))

    def variants(self, domains: abc.Mapping[str, Tree]) -> tuple[Variant, ...]:
        """Build the spec with values of its sweep put in place; errors of a variant name its value."""
        from cnnspec.spec.sweep import changed_trees  # as above

        variants, wrong = [], set[str]()
        for changed in changed_trees(self.findings, self.tree, domains):
            if changed.help is not None and changed.path in wrong:  # its bounds are wrong already
                continue
            assert isinstance(changed.tree, Mapping)
            findings = Findings()
            loader = _SpecLoader(findings, changed.tree, self.file)
            spec = loader.parts()
            self.scope.used.update(loader.scope.used)
            if spec is not None:
                variants.append(Variant(changed.path, changed.value, spec))
            for error in findings.diagnostics:
                if error.severity == "error":
                    wrong.add(changed.path)
                    finding = with_value(changed.path, changed.value, error)
                    self.findings.diagnostics.append(replace(finding, help=finding.help or changed.help))
        return tuple(variants)

    def unused(self) -> None:
        """Warn of unused names, unless the spec has errors, which may hide the use."""
        variables = self.scope.used.union(*self.blocks.names_used.values())
        for section, noun, used in (("vars", "variable", variables), ("blocks", "block", self.blocks.used)):
            tree = self.tree.get(section)
            for name, span in tree.keys.items() if isinstance(tree, Mapping) else ():
                if name not in used:
                    code = f"unused-{section.removesuffix('s')}"
                    self.findings.warn(code, f"{noun} '{name}' is never used", span, Where(section))
        for block, name, span in self.blocks.idle_inputs():
            message = f"input '{name}' of block '{block}' is never read"
            self.findings.warn("unused-parameter", message, span, Where("blocks").down(block).down("inputs"))
        for block, name, span in self.blocks.idle_parameters():
            message = f"parameter '{name}' of block '{block}' is never used"
            self.findings.warn("unused-parameter", message, span, Where("blocks").down(block).down("params"))

    def expect(self, tree: Tree, where: Where) -> abc.Mapping[str, Budget]:
        mapping = self.mapping(tree, where)
        self.typing.known_keys(mapping, BUDGETS, where, "figure", "expect key")
        return {
            name: self.budget(name, value, where.down(name))
            for name, value in mapping.values.items()
            if name in BUDGETS
        }

    def mapping(self, tree: Tree, where: Where) -> Mapping:
        if not isinstance(tree, Mapping):
            message = f"{where.path}: expected a mapping, got {got(plain(tree))}"
            raise self.findings.error("invalid-value", message, tree.span, where)
        return tree

    def budget(self, name: str, tree: Tree, where: Where) -> Budget:
        if name == "output":
            items = tree.items if isinstance(tree, Items) else (tree,)
            return Budget(exact=tuple(self.typing.value(PositiveInt, item, where) for item in items))
        if not isinstance(tree, Mapping):
            return Budget(exact=self.figure(name, tree, where))
        self.typing.known_keys(tree, ("min", "max"), where, "bound")
        bounds = {key: self.figure(name, value, where.down(key)) for key, value in tree.values.items()}
        budget = Budget(minimum=bounds.get("min"), maximum=bounds.get("max"))
        if budget.minimum is not None and budget.maximum is not None and budget.minimum > budget.maximum:
            message = f"expect.{name}: expected min up to max, got min {budget.minimum:,} and max {budget.maximum:,}"
            raise self.findings.error("invalid-value", message, tree.span, where)
        return budget

    def figure(self, name: str, tree: Tree, where: Where) -> int:
        value = plain(tree)
        size = name.endswith("_memory")
        if isinstance(value, str) and re.fullmatch(BYTES_PATTERN if size else COUNT_PATTERN, value):
            return parse_bytes(value) if size else parse_count(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            example = "a size such as 64 MiB" if size else "a count such as 431080 or 2.5M"
            message = f"expect.{name}: expected {example}, got {got(value)}"
            help, fix = self.typing.cure(name, tree, lambda other: isinstance(other, int) and other >= 0)
            raise self.findings.error("invalid-value", message, tree.span, where, help=help, fix=fix)
        return int(convert(Count, value))

    def require(self, tree: Tree, where: Where) -> tuple[Requirement, ...]:
        mapping = self.mapping(tree, where)
        named = (f"{split}.{name}.{figure}" for split in SCORED for name in self.losses for figure in MEASURED)
        known, required = (*METRICS, *named), []
        for metric, value in mapping.values.items():
            if metric not in known:
                self.findings.unknown("unknown-metric", "metric", metric, known, mapping.keys[metric], where)
                continue
            written = str(plain(value))
            match = _COMPARISON.fullmatch(written) if len(written) <= LONGEST else None
            if match is None or not isfinite(float(match[2])):
                message = f'require.{metric}: expected a comparison such as ">= 0.98", got {got(plain(value))}'
                text = comparison(plain(value))
                fix = Fix(value.span, text, f"write {text}") if text and isinstance(value, Scalar) else None
                help = text and f"write {text}"
                self.findings.error("invalid-value", message, value.span, where.down(metric), help=help, fix=fix)
                continue
            required.append(Requirement(metric, match[1], float(match[2])))
        return tuple(required)
