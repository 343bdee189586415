"""Layers, losses, optimizers and data sources from files outside of the package, which are those of the guide."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import cnnspec
from cnnspec import registry
from cnnspec.cli import main
from cnnspec.diagnostics import PluginError, SpecError
from cnnspec.spec import load, loads
from cnnspec.train.records import about_text, read_about
from tests.samples import sampled

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[1]
GUIDE = files("cnnspec").joinpath("guide", "plugins.md").read_text(encoding="utf-8")
OWN = "\n\n".join(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
NET = """cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: layer_scale, initial: 0.5}
  - {type: conv2d, filters: 4, kernel_size: 3}
  - relu
  - layer_scale
  - flatten
  - {type: dense, units: 2}
data: {source: {type: stripes, images: 64}, preprocess: [scale]}
train: {epochs: 3, batch_size: 16, loss: log_cosh, optimizer: {type: sign_sgd, learning_rate: 0.01}}
require: {test.accuracy: "> 0.8"}
"""
NAMING = NET.replace("name: net\n", "name: net\nplugins: [layers/own.py]\n")
TINY = "cnnspec: 1\ninput: [1, 4, 4]\nlayers: [{}]\n"
RELU_LIKE = """
from cnnspec.layers.activation import Relu
from cnnspec.registry import register

@register("{}")
class Own(Relu):
    '''y = max(x, 0).'''
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the guide's plugin, a spec that names it, one that does not, and an installed package with it."""
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "own.py").write_text(OWN)
    (tmp_path / "naming.yaml").write_text(NAMING)
    (tmp_path / "net.yaml").write_text(NET)
    install(tmp_path / "site", "mypackage", OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def install(site: Path, package: str, source: str) -> None:
    """What an installer leaves of a package with one module and the entry point."""
    about = site / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[cnnspec.plugins]\nmine = {package}\n")
    (site / f"{package}.py").write_text(source)


def cnnspec_(*words: str | Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own, with the packages in `site` installed."""
    paths = [str(ROOT), *([str(site)] if site else []), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "cnnspec", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


WAYS = {
    "the command line": (["net.yaml", "--plugin", "layers/own.py"], False),
    "the spec": (["naming.yaml"], False),
    "an installed package": (["net.yaml"], True),
}


@pytest.mark.parametrize("way", sampled(WAYS, 3))
def test_a_network_of_ones_own_parts_lives_its_whole_life(folder: Path, way: str) -> None:
    words, installed = WAYS[way]
    site = folder / "site" if installed else None

    def do(*given: str | Path) -> str:
        done = cnnspec_(*given, site=site)
        assert done.returncode == 0, done.stderr
        return done.stdout

    do("train", *words, "--threads", "2", "--quiet")
    run = folder / "runs" / "net"
    if not installed:  # the run needs neither the file nor a flag
        (folder / "layers" / "own.py").unlink()
    assert "accuracy" in do("eval", run)
    assert json.loads(do("verify", run, "--json"))["difference"] is None
    np.save(folder / "images.npy", np.zeros((2, 1, 8, 8), np.uint8))
    assert "lying" in do("predict", run, folder / "images.npy")
    do("train", "--resume", run, "--set", "train.epochs=4", "--quiet")
    assert json.loads(do("runs", "compare", run, "--json"))["runs"][0]["epochs"] == 4
    assert json.loads(do("verify", run, "--all", "--json"))["difference"] is None
    about = json.loads((run / "run.json").read_text())
    assert [record["path"] for record in about["plugins"]] == ([] if installed else ["layers/own.py"])


@pytest.mark.parametrize("verb", ["validate", "summary", "graph", "render", "gradcheck", "smoke"])
def test_every_verb_that_reads_a_spec_takes_a_plugin(folder: Path, capsys: Captured, verb: str) -> None:
    assert main([verb, "net.yaml", "--plugin", "layers/own.py"]) == 0
    assert verb in ("validate", "smoke") or "layer_scale" in capsys.readouterr().out


def test_python_takes_it_too(folder: Path) -> None:
    for model in (
        cnnspec.compile("net.yaml", plugins=["layers/own.py"], threads=1),
        cnnspec.compile("naming.yaml", threads=1),
        cnnspec.compile(cnnspec.load_spec("naming.yaml", plugins=["layers/own.py"]), threads=1),
        cnnspec.compile(cnnspec.load_spec("naming.yaml", allow_plugins=True), threads=1),
    ):
        assert model.fit()[-1]["test.accuracy"] > 0.8
    with pytest.raises(SpecError, match=r"layers/own\.py was not run"):
        cnnspec.load_spec("naming.yaml")
    with pytest.raises(SpecError, match="unknown layer 'layer_scale'"):
        cnnspec.load_spec("net.yaml")


def test_pages_schema_and_suggestions_know_it(folder: Path, capsys: Captured) -> None:
    own = ["--plugin", "layers/own.py"]
    assert main(["explain", "layer_scale", *own]) == 0
    page = capsys.readouterr().out
    assert "y = scale x, one learned scale for each channel." in page
    assert "initial: a number (default 0.1)\n      what every scale is at first" in page
    main(["explain", "layer_scale"])  # another framework's word, which means a layer of ours
    assert "one learned scale for each channel" not in capsys.readouterr().out
    assert main(["schema", *own]) == 0
    definitions = json.loads(capsys.readouterr().out)["definitions"]
    assert {"layer.layer_scale", "loss.log_cosh", "optimizer.sign_sgd", "source.stripes"} <= definitions.keys()
    (folder / "typo.yaml").write_text(NET.replace("- layer_scale\n", "- layer_scales\n").replace("initial:", "initia:"))
    assert main(["validate", "typo.yaml", *own]) == 1
    said = capsys.readouterr().out
    assert "did you mean layer_scale?" in said
    assert "did you mean initial?" in said
    assert main(["data", "list", "stripes", *own]) == 0
    assert "Noisy images with stripes" in capsys.readouterr().out


def test_an_installed_package_needs_no_flag(folder: Path) -> None:
    site = folder / "site"
    assert cnnspec_("validate", "net.yaml", site=site).returncode == 0
    assert cnnspec_("explain", "layer_scale", site=site).returncode == 0
    assert cnnspec_("validate", "net.yaml").returncode == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "registers nothing"),
        (
            "import nowhere_to_be_found\n",
            "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        (RELU_LIKE.format("conv2d"), "registers the layer 'conv2d', which there is already"),
    ],
    ids=["nothing", "import", "clash"],
)
def test_an_installed_package_that_cannot_be_used_is_one_line(folder: Path, source: str, said: str) -> None:
    install(folder / "bad", "badpackage", source)
    done = cnnspec_("validate", "net.yaml", site=folder / "bad")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"cnnspec: error: plugin mine of the package badpackage {said}",
        "help: upgrade badpackage, or uninstall it",
    ]


BAD = {
    "syntax": ("x = 1\ndef broken(:\n", "plugin bad.py, line 2: SyntaxError: invalid syntax", "mend the file"),
    "name": ("\n\nundefined\n", "plugin bad.py, line 3: NameError: name 'undefined' is not defined", "mend the file"),
    "import": (
        "import nowhere_to_be_found\n",
        "plugin bad.py, line 1: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        "install nowhere_to_be_found; a plugin is one file and cannot import others that lie beside it",
    ),
    "exit": ("raise SystemExit(7)\n", "plugin bad.py, line 1: SystemExit: 7", "mend the file"),
    "nothing": ("x = 1\n", "plugin bad.py registers nothing", "put @register(NAME) above a class: layer, "),
    "clash": (
        RELU_LIKE.format("conv2d"),
        "plugin bad.py, line 5: registers the layer 'conv2d', which there is already",
        "give it another name",
    ),
    "twice": (
        RELU_LIKE.format("own") + RELU_LIKE.format("own"),
        "plugin bad.py, line 12: ValueError: the layer 'own' is registered twice",
        "mend the file",
    ),
    "kind": (
        "from cnnspec.registry import register\n@register('own')\nclass Own:\n    pass\n",
        "plugin bad.py, line 2: TypeError: Own is none of layer, ",
        "mend the file",
    ),
    "field": (
        RELU_LIKE.format("own") + "    size: complex = 1\n",
        "plugin bad.py, line 5: Own: <class 'complex'> is no type of a field: take one of cnnspec.fields, or ",
        "mend the annotations of its fields",
    ),
    "annotation": (
        "from __future__ import annotations\n" + RELU_LIKE.format("own") + "    size: Nowhere = 1\n",
        "plugin bad.py, line 6: Own: name 'Nowhere' is not defined",
        "mend the annotations of its fields",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_plugin_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, kind: str
) -> None:
    source, message, help = BAD[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(source)
    (tmp_path / "plain.yaml").write_text(TINY.format("relu"))
    (tmp_path / "naming.yaml").write_text("plugins: [bad.py]\n" + TINY.format("relu"))
    assert main(["summary", "plain.yaml", "--plugin", "bad.py"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"cnnspec: error: {message}")
    assert second.startswith(f"help: {help}")
    assert main(["summary", "naming.yaml", "--allow-plugins"]) == 1
    said = capsys.readouterr().out
    assert f"error[plugin]: {message}" in said.replace("\n", " ") or message in said
    assert "naming.yaml:1:11" in said
    assert main(["summary", "plain.yaml"]) == 0  # nothing of it is left


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Captured) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(TINY.format("relu"))
    assert main(["validate", str(spec), "--plugin", "gone.py"]) == 2
    assert "cannot read the plugin gone.py: No such file or directory" in capsys.readouterr().err


def findings(text: str, folder: Path, *, trusted: bool = True) -> list[tuple[str, int, int, str]]:
    with pytest.raises(SpecError) as caught:
        loads(text, str(folder / "net.yaml"), allow_plugins=trusted)
    return [(d.code, d.span.line, d.span.column, d.message) for d in caught.value.diagnostics]


def test_a_plugin_lies_in_the_folder_of_the_spec(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "own.py"
    inner.mkdir()
    outer.write_text(RELU_LIKE.format("own"))
    (inner / "link.py").symlink_to(outer)
    for name in ("../own.py", str(outer), "link.py", "deeper/../../own.py"):
        ((code, line, column, message),) = findings(f"plugins: [{name}]\n" + TINY.format("own"), inner)
        assert (code, line, column) == ("plugin", 1, 11)
        assert message == f"plugins: {name} lies outside of inner/, the spec's own folder"


@pytest.mark.parametrize("value", ["own.py", "7", "{a: b}", "[3]", "[[own.py]]"])
def test_plugins_are_a_list_of_files(tmp_path: Path, value: str) -> None:
    ((code, line, _, message),) = findings(f"plugins: {value}\n" + TINY.format("relu"), tmp_path)
    assert (code, line) == ("plugin", 1)
    assert message.startswith("plugins: expected a ")


def test_no_verb_that_only_reads_runs_what_a_spec_names(folder: Path, capsys: Captured) -> None:
    (folder / "layers" / "own.py").write_text(OWN + "\nPath('ran').touch()\n")
    for verb in ("validate", "summary", "graph", "render", "diff"):
        assert main([verb, "naming.yaml", *(["naming.yaml"] if verb == "diff" else [])]) == 1
        said = capsys.readouterr().out
        assert "layers/own.py was not run: it is a program, and the spec is only read here" in said
        assert "naming.yaml:3:11" in said
        assert "unknown" not in said
        assert not (folder / "ran").exists()
    assert main(["validate", "naming.yaml", "--allow-plugins"]) == 0
    assert (folder / "ran").exists()


def test_all_else_is_checked_where_a_plugin_was_not_run(folder: Path) -> None:
    wrong = NAMING.replace("filters: 4", "filters: none").replace("epochs: 3", "epochs: 0")
    found = findings(wrong, folder, trusted=False)
    assert [code for code, *_ in found] == ["plugin", "invalid-value", "invalid-value"]


def test_a_plugin_of_a_base_is_beside_the_base(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "own.py").write_text(RELU_LIKE.format("own"))
    (tmp_path / "bases" / "base.yaml").write_text("plugins: [own.py]\n" + TINY.format("own"))
    (tmp_path / "net.yaml").write_text("extends: bases/base.yaml\nseed: 1\n")
    spec = load(tmp_path / "net.yaml", allow_plugins=True)
    assert [plugin.name for plugin in spec.plugins] == ["bases/own.py"]


def test_the_same_file_twice_is_fine_and_two_of_a_name_are_not(folder: Path, capsys: Captured) -> None:
    (folder / "copy.py").write_text(OWN)
    own = ["--plugin", "layers/own.py"]
    assert main(["validate", "naming.yaml", *own, *own, "--plugin", "copy.py"]) == 0
    (folder / "other.py").write_text(RELU_LIKE.format("layer_scale"))
    capsys.readouterr()
    assert main(["validate", "net.yaml", *own, "--plugin", "other.py"]) == 2
    said = capsys.readouterr().err
    assert "plugin other.py, line 5: registers the layer 'layer_scale', which layers/own.py registers too" in said
    assert main(["validate", "naming.yaml", "--allow-plugins", "--plugin", "other.py"]) == 1
    assert "registers the layer 'layer_scale', which other.py registers too" in capsys.readouterr().out


def test_two_specs_may_each_have_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(RELU_LIKE.format("own").replace("max(x, 0)", name))
        (tmp_path / name / "net.yaml").write_text("plugins: [own.py]\n" + TINY.format("own"))
    first, second = (load(tmp_path / name / "net.yaml", allow_plugins=True) for name in ("a", "b"))
    documents = [spec.layers[0].layer.__doc__ for spec in (first, second)]  # type: ignore[union-attr]
    assert documents == ["y = a.", "y = b."]
    assert "own" not in registry.table("layer")


def test_a_changed_plugin_is_told_and_the_run_keeps_its_own(folder: Path, capsys: Captured) -> None:
    assert main(["train", "naming.yaml", "--quiet", "--threads", "1"]) == 0
    original = folder / "layers" / "own.py"
    original.write_text(OWN + "\n# changed\n")
    capsys.readouterr()
    assert main(["eval", "runs/net"]) == 0
    note = "layers/own.py has changed since this training began; the run uses its own copy, runs/net/plugins/own.py"
    assert capsys.readouterr().err.splitlines() == [f"cnnspec: note: {note}"]
    assert main(["train", "naming.yaml", "--resume", "runs/net", "--set", "train.epochs=4"]) == 4
    assert "runs/net was trained with another spec:" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/net", "--set", "train.epochs=4", "--quiet"]) == 0
    about = folder / "runs" / "net" / "run.json"
    said = about.read_text()
    about.write_text(about_text({**read_about(about), "plugins": [{"path": "own.py"}]}))
    capsys.readouterr()
    assert main(["eval", "runs/net"]) == 4
    assert "runs/net/run.json does not say which plugins the training ran" in capsys.readouterr().err
    about.write_text(said)
    kept = folder / "runs" / "net" / "plugins" / "own.py"
    kept.write_text(OWN.replace("scale x", "what you like"))
    for verb in ("eval", "verify"):
        capsys.readouterr()
        assert main([verb, "runs/net"]) == 4
        assert (
            "runs/net/plugins/own.py was changed: the training ran the plugin with SHA-256" in capsys.readouterr().err
        )
    kept.unlink()
    assert main(["eval", "runs/net"]) == 4
    assert "runs/net/plugins/own.py is missing" in capsys.readouterr().err


def test_files_of_one_name_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(RELU_LIKE.format(name))
    layers = "one, two, flatten, {type: dense, units: 10}"
    text = f"plugins: [one/own.py, two/own.py]\ncnnspec: 1\ninput: [1, 8, 8]\nlayers: [{layers}]\n"
    (tmp_path / "net.yaml").write_text(text + "data: {source: digits, train: {limit: 64}}\ntrain: {epochs: 1}\n")
    assert main(["train", "net.yaml", "--quiet", "--threads", "1"]) == 0
    assert sorted(path.name for path in Path("runs/net/plugins").iterdir()) == ["own-2.py", "own.py"]
    assert main(["eval", "runs/net"]) == 0


def test_an_error_in_a_plugin_is_not_called_a_bug_of_the_library(folder: Path, capsys: Captured) -> None:
    own = folder / "layers" / "own.py"
    own.write_text(OWN.replace('"""scale (c,)."""', "raise ZeroDivisionError('oh')"))
    line = own.read_text().splitlines().index("        raise ZeroDivisionError('oh')") + 1
    assert main(["summary", "net.yaml", "--plugin", "layers/own.py"]) == 4
    said = capsys.readouterr().err
    assert f"plugin {own}:{line}: ZeroDivisionError: oh\nhelp: mend the plugin" in said


def test_so_is_one_that_arises_in_a_worker(folder: Path) -> None:
    (folder / "layers" / "own.py").write_text(
        OWN.replace('return [partial(np.multiply, o.x, per_channel(o.params["scale"], o.x), o.y)]', "return [oh]")
        + "\n\ndef oh() -> None:\n    raise ZeroDivisionError('oh')\n"
    )
    done = cnnspec_("train", "naming.yaml", "--threads", "2", "--quiet")
    assert done.returncode == 4
    assert "ZeroDivisionError: oh" in done.stderr
    assert "bug in cnnspec" not in done.stderr


@pytest.mark.parametrize(("framework", "name"), [("torch", "PyTorch"), ("onnxruntime", "ONNX")])
def test_a_layer_without_counterpart_is_refused(folder: Path, capsys: Captured, framework: str, name: str) -> None:
    pytest.importorskip(framework)
    command = ["bench", "net.yaml", "--plugin", "layers/own.py", "--inference", "--against", framework]
    assert main(command) == 4
    assert f"{name} has no counterpart of layer_scale" in capsys.readouterr().err


def test_plugin_errors_are_raised_to_programs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("x = 1\n")
    with pytest.raises(PluginError, match="registers nothing"):
        loads(TINY.format("relu"), plugins=[tmp_path / "own.py"])


def test_a_class_of_the_running_program_is_known(tmp_path: Path) -> None:
    program = RELU_LIKE.format("own") + f"import cnnspec\nprint(len(cnnspec.load_spec('{tmp_path}/net.yaml').layers))\n"
    (tmp_path / "net.yaml").write_text(TINY.format("own"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program * 2], env=environment, capture_output=True, text=True)
    assert done.stdout == "1\n1\n", done.stderr
