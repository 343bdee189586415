"""`completion SHELL`: a script with which a shell completes verbs, options, their values and files."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnspec.cli import CLEAN, VERBS, parsers

DESCRIPTION = """\
bash: eval "$(cnnspec completion bash)" in ~/.bashrc; zsh: eval "$(cnnspec completion zsh)" in ~/.zshrc, behind
compinit; fish: cnnspec completion fish > ~/.config/fish/completions/cnnspec.fish"""


@dataclass(frozen=True)
class Option:
    """An option of a verb: its names, its help, and its values if there are only a few."""

    names: tuple[str, ...]
    help: str
    values: tuple[str, ...]
    takes_value: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.epilog = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell that completes")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    _, verbs = parsers(VERBS)
    print(SHELLS[arguments.shell]({name: tuple(_options(parser)) for name, parser in verbs.items()}))
    return CLEAN


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        values = tuple(map(str, action.choices or ()))
        names = tuple(action.option_strings)
        yield Option(names, action.help or "", values, bool(names) and action.nargs != 0)


def _bash(verbs: Mapping[str, Sequence[Option]]) -> str:
    lines = [
        "_cnnspec() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local verb="${COMP_WORDS[1]}" words=""',
        '    if [ "$COMP_CWORD" -eq 1 ]; then',
        f"        words={shlex.quote(' '.join([*verbs, 'help']))}",
        "    else",
        '        case "$verb $before" in',
    ]
    for verb, options in verbs.items():
        for option in options:
            if option.names and option.values:
                pattern = " | ".join(shlex.quote(f"{verb} {name}") for name in option.names)
                lines.append(f"            {pattern}) words={shlex.quote(' '.join(option.values))} ;;")
    lines += ["        esac", '        if [ -z "$words" ]; then', '            case "$verb" in']
    for verb, options in verbs.items():
        flags = [name for option in options for name in option.names]
        values = [value for option in options if not option.names for value in option.values]
        lines.append(f"                {verb}) words={shlex.quote(' '.join(values))}")
        lines.append(f'                    case "$word" in -*) words={shlex.quote(" ".join(flags))} ;; esac ;;')
    lines += [
        f"                help) words={shlex.quote(' '.join(verbs))} ;;",
        "            esac",
        "        fi",
        "    fi",
        '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -o default -F _cnnspec cnnspec",
    ]
    return "\n".join(lines)


def _zsh(verbs: Mapping[str, Sequence[Option]]) -> str:
    return "autoload -U bashcompinit && bashcompinit\n" + _bash(verbs)


def _fish(verbs: Mapping[str, Sequence[Option]]) -> str:
    first = f"not __fish_seen_subcommand_from {' '.join(verbs)}"
    lines = [f"complete -c cnnspec -n {_quoted(first)} -f -a {verb} -d {_quoted(VERBS[verb])}" for verb in verbs]
    for verb, options in verbs.items():
        seen = _quoted(f"__fish_seen_subcommand_from {verb}")
        for option in options:
            names = "".join(
                f" -l {name.removeprefix('--')}" if name.startswith("--") else f" -s {name.removeprefix('-')}"
                for name in option.names
            )
            values = f" -a {_quoted(' '.join(option.values))}" if option.values else ""
            value_flag = (" -x" if option.values else " -r") if option.takes_value else ""
            if names or values:
                lines.append(f"complete -c cnnspec -n {seen}{names}{value_flag}{values} -d {_quoted(option.help)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return a text in single quotes, in fish's syntax."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Mapping[str, Sequence[Option]]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
