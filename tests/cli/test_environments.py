"""Environments that lack something: every verb does its work or says in a line what it lacks, with the right status."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from cnnspec.cli import main

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("bash") is None, reason="environments are made as Linux has them"
)
ROOT = Path(__file__).parent.parent.parent
SPEC = """cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: {type: synthetic, shape: [1, 8, 8], train: 40, test: 10}}
train: {epochs: 1, batch_size: 20}
"""
VERBS = (
    ["validate", "net.yaml"],
    ["validate", "-"],
    ["summary", "net.yaml"],
    ["render", "net.yaml"],
    ["graph", "net.yaml"],
    ["graph", "net.yaml", "-o", "OUT/net.svg"],
    ["train", "net.yaml", "--threads", "1", "--out", "OUT"],
    ["train", "net.yaml", "--threads", "2", "--out", "OUT", "--quiet"],
    ["train", "net.yaml", "--json", "--threads", "1", "--out", "OUT"],
    ["eval", "runs/net"],
    ["verify", "runs/net"],
    ["runs", "list", "runs"],
    ["export", "runs/net", "--format", "numpy", "-o", "OUT/made.py"],
    ["report", "runs/net", "-o", "OUT/page.html"],
    ["explain", "conv2d"],
    ["init", "-o", "OUT/new.yaml"],
    ["data", "list"],
    ["data", "fetch", "nothing"],
    ["smoke", "net.yaml"],
    ["gradcheck", "net.yaml"],
    ["completion", "bash"],
    ["--help"],
)
VALUES: Mapping[str, tuple[str | None, ...]] = {  # of the environment; None: the name is taken out
    "HOME": (None, "", "/nowhere", "/dev/null", "/proc"),
    "XDG_CACHE_HOME": ("", "/dev/null/x", "relative"),
    "TMPDIR": ("/nowhere", "/dev/null"),
    "LC_ALL": ("C", "POSIX", "xx_XX", "de_DE.ISO-8859-1"),
    "LANG": (None, "C", "\udcff"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONIOENCODING": ("ascii", "latin-1", "utf-16", "cp437"),
    "PYTHONCOERCECLOCALE": ("0",),
    "TERM": (None, "dumb", "nonsense"),
    "COLUMNS": ("0", "1", "7", "-3", "many", "100000"),
    "NO_COLOR": ("", "1"),
    "FORCE_COLOR": ("1",),
    "MPLBACKEND": ("nonsense", "TkAgg"),
    "MPLCONFIGDIR": ("/nowhere", "/dev/null"),
    "OMP_NUM_THREADS": ("0", "many", "9999"),
    "OPENBLAS_NUM_THREADS": ("0", "3", "many"),
    "CNNSPEC_DATA": ("", "/dev/null", "/nowhere"),
    "PATH": (None, ""),
    "TZ": ("nonsense", ""),
}
LIMITS = {  # as the shell names them: open files, kibibytes of a file, of the stack, of memory, and that is locked
    "n": (16, 24, 40),
    "f": (0, 1, 20),
    "s": (256, 1024),
    "v": (2 << 20, 4 << 20),
    "l": (0,),
}
STREAMS = ("<&-", ">&-", "2>&-", "> /dev/full", "2> /dev/full", "| :", "< /dev/null", ">&- 2>&-", "<&- >&- 2>&-")
FOLDERS = ("out", "out", "out", "/dev/null/x", "/proc/self", "net.yaml", "out/a/b", "/nowhere\n", "")


@dataclass(frozen=True)
class Case:
    """One run of the program: what is asked of it, and where."""

    words: list[str]
    environment: dict[str, str | None] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    stream: str = ""
    gone: bool = False  # whether the folder that it runs in is removed before
    bare: bool = False  # whether there is no /dev/shm


def case(chances: random.Random) -> Case:
    """One of very many."""
    folder = chances.choice(FOLDERS)
    names = chances.sample(list(VALUES), chances.choice((0, 1, 1, 2, 4)))
    limits = chances.sample(list(LIMITS), chances.choice((0, 0, 1, 1, 2)))
    return Case(
        [word.replace("OUT", folder) for word in chances.choice(VERBS)],
        {name: chances.choice(VALUES[name]) for name in names},
        {name: chances.choice(LIMITS[name]) for name in limits},
        chances.choice(("", *STREAMS)),
        chances.random() < 0.05,
        chances.random() < 0.1,
    )


@cache
def hidden() -> list[str]:
    """The words before a program that take /dev/shm from it; none where the system does not allow it."""
    unshare, mount, shell = (shutil.which(name) for name in ("unshare", "mount", "sh"))
    if unshare is None or mount is None or shell is None:
        return []
    words = [unshare, "--mount", shell, "-c", f'{mount} -t tmpfs -o ro none /dev/shm && exec "$@"', "sh"]
    return words if subprocess.run([*words, "/bin/true"], capture_output=True, check=False).returncode == 0 else []


def run(one: Case, folder: Path) -> tuple[int, str]:
    """The status of the program, and all that it wrote."""
    program = [*(hidden() if one.bare else ()), sys.executable, "-m", "cnnspec", *one.words]
    limits = [f"ulimit -S{letter} {value}" for letter, value in one.limits.items()]
    leave = ["/bin/rmdir ../gone"] if one.gone else []
    script = "\n".join([*limits, *leave, f"{shlex.join(program)} {one.stream}", "exit ${PIPESTATUS[0]}"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **one.environment}
    place = folder / "gone" if one.gone else folder
    place.mkdir(exist_ok=True)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", script],
        cwd=place,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=600,
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec and a run of it."""
    folder = tmp_path_factory.mktemp("environments")
    (folder / "net.yaml").write_text(SPEC)
    words = ["train", str(folder / "net.yaml"), "--quiet", "--threads", "1", "--out", str(folder / "runs")]
    assert main(words) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_hundreds_of_environments(seed: int, project: Path, tmp_path: Path) -> None:
    chances = random.Random(seed)
    for number in range(100):
        place = Path(shutil.copytree(project, tmp_path / str(number)))
        one = case(chances)
        status, said = run(one, place)
        assert status in (0, 1, 2, 4, 141), (one, status, said)
        assert "Traceback" not in said, (one, said)
        assert "internal error" not in said, (one, said)
        shutil.rmtree(place)
