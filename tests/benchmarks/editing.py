"""How long an editor waits for the language server, and whether its memory grows.

    python tests/benchmarks/editing.py [EDITS [SPEC]]

Changes DenseNet-121, or another spec, as a person does who types a digit, a comment or a layer, and prints the
processor's time from each change to its findings and to the hints; it should be below 50 ms for 95 of 100. Then it
makes 10,000 edits and prints the memory of the process and the number of its objects along the way, which should not
grow.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from cnnspec.lsp.diagnostics import diagnostics
from cnnspec.lsp.hints import hints
from tests.lsp.typing import EVERYTHING, opened

SPEC = Path(__file__).parents[2] / "specs" / "densenet121.yaml"
ROUNDS = 200


def edits(text: str, count: int) -> list[str]:
    """Versions of the text, each a change of one place of the one before: numbers, comments, half a line, a layer."""
    found = []
    for number in range(count):
        match number % 4:
            case 0:
                found.append(text.replace("growth: 32", f"growth: {8 * (number % 7 + 1)}"))
            case 1:
                found.append(text + f"# a comment {number}\n")
            case 2:
                found.append(text.replace("  - global_avg_pool2d\n", "  - {type: dropout, ra\n  - global_avg_pool2d\n"))
            case _:
                found.append(text.replace("  - global_avg_pool2d\n", "  - relu\n  - global_avg_pool2d\n"))
    return found


def resident() -> int:
    """The memory of this process, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20


def main(count: int, spec: Path) -> None:
    """Print all figures."""
    text = spec.read_text()
    documents, document = opened(spec.resolve().as_uri(), text)
    diagnostics(documents, document)
    gc.collect()
    gc.freeze()
    told, shown = [], []
    for version in edits(text, ROUNDS):
        started = time.process_time()
        documents.put(document.uri, version, 1)
        diagnostics(documents, document)
        told.append(1000 * (time.process_time() - started))
        hints(document, EVERYTHING)
        shown.append(1000 * (time.process_time() - started))
    for what, times in (("findings", told), ("findings and hints", shown)):
        print(f"{what}: median {median(times):.1f} ms, 95 of 100 below {quantiles(times, n=20)[-1]:.1f} ms")
    for number, version in enumerate(edits(text, count)):
        if number % max(1, count // 5) == 0:
            print(f"after {number:,} edits: {resident()} MiB, {len(gc.get_objects()):,} objects")
        documents.put(document.uri, version, 1)
        diagnostics(documents, document)
        hints(document, EVERYTHING)
    gc.collect()
    print(f"after {count:,} edits: {resident()} MiB, {len(gc.get_objects()):,} objects")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, Path(sys.argv[2]) if len(sys.argv) > 2 else SPEC)
