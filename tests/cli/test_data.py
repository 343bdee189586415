"""The verb `data`: what is here, what is fetched, and what is said of damage."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.data.cifar import Cifar100
from cnnspec.data.published import Remote


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with a small file in the place of CIFAR-100's archive."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "small.tar.gz").write_bytes(b"content")
    remote = Remote("small.tar.gz", 7, hashlib.sha256(b"content").hexdigest())
    monkeypatch.setattr(Cifar100, "remotes", (remote,))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_list_says_what_there_is_and_what_is_here(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--data", str(shared_data), "--json"]) == 0
    found = {row["source"]: row for row in rows(capsys)}
    assert found["mnist"]["state"] == "present"
    assert found["mnist"]["bytes"] == 11_594_722
    assert found["mnist"]["folder"] == str(shared_data / "mnist")
    assert found["cifar100"]["state"] == "missing"
    assert found["cifar100"]["download_bytes"] == 168_513_733
    assert found["digits"]["state"] == "built in"
    assert found["csv"]["state"] == "needs shape"
    assert main(["data", "list", "mnist", "digits", "--data", str(shared_data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"mnist          present    11.6 MB in {shared_data / 'mnist'}"
    assert lines[1].startswith("digits         built in   8x8 handwritten digits")


def test_fetch_lands_in_the_cache_or_under_a_folder(
    mirror: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "fetch", "cifar100", "--mirror", mirror]) == 0
    assert (tmp_path / "cache" / "cnnspec" / "cifar100" / "small.tar.gz").read_bytes() == b"content"
    assert main(["data", "fetch", "cifar100", "--mirror", mirror, "--data", str(tmp_path / "own"), "--json"]) == 0
    assert (tmp_path / "own" / "cifar100" / "small.tar.gz").read_bytes() == b"content"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"] == 7


def test_fetch_that_fails_is_one_line(mirror: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "cifar100", "--mirror", f"{mirror}nowhere"]) == 4
    out = capsys.readouterr().out
    assert out.startswith(f"cifar100: error: cannot download {mirror}nowhere/small.tar.gz: the server says 404")
    assert "help: run it again" in out
    assert main(["data", "fetch", "digits"]) == 4
    assert "digits comes with the package" in capsys.readouterr().out


def test_verify_counts_and_names_damage(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "mnist", "cifar10", "--data", str(shared_data), "--json"]) == 0
    mnist, cifar = rows(capsys)
    assert (mnist["state"], mnist["images"], mnist["classes"]) == ("whole", {"train": 60000, "test": 10000}, 10)
    assert cifar["state"] == "in part"
    assert cifar["notes"] == [
        "cifar10: 5,000 of the published 50,000 train images are here",
        "cifar10: 1,000 of the published 10,000 test images are here",
    ]
    for path in (shared_data / "mnist").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01")
    assert main(["data", "verify", "mnist", "--data", str(tmp_path)]) == 4
    out = capsys.readouterr().out
    assert "t10k-labels-idx1-ubyte: truncated, expected a header of 8 bytes, got 4" in out
    assert "help: delete the file and fetch it again" in out


def test_verify_reads_the_data_of_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    spec = tmp_path / "net.yaml"
    spec.write_text(
        "cnnspec: 1\ninput: [1, 4, 4]\nlayers: [flatten, {type: dense, units: 2}]\n"
        f"data: {{source: npz, root: '{tmp_path}'}}\n"
    )
    assert main(["data", "verify", str(spec)]) == 0
    assert "whole      8 train, 2 test images in 2 classes" in capsys.readouterr().out


def test_what_is_asked_for_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "minst"]) == 2
    asked = "did you mean mnist or emnist or kmnist?"
    assert capsys.readouterr().err == f"cnnspec: error: unknown source 'minst'\nhelp: {asked}\n"
    assert main(["data", "fetch"]) == 2
    assert "cnnspec: error: fetch what?" in capsys.readouterr().err
    for action in ("list", "fetch"):
        assert main(["data", action, "net.yaml"]) == 2
        assert "cnnspec: error: unknown source 'net.yaml'" in capsys.readouterr().err
    assert main(["data", "verify"]) == 2  # the cache is empty
    assert "cnnspec: error: verify what?" in capsys.readouterr().err
    assert main(["data", "verify", "npz"]) == 4
    assert "npz is no published data set" in capsys.readouterr().out


def test_an_unwritable_folder_is_one_line(mirror: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(["data", "fetch", "cifar100", "--mirror", mirror, "--data", str(tmp_path / "file")]) == 4
    assert f"{tmp_path / 'file' / 'cifar100'}: cannot be written: Not a directory" in capsys.readouterr().out


def test_a_network_trained_on_folders_answers_with_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, value in (("dark", 20), ("light", 230)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(10):
            image.new("L", (4, 4), value + number).save(tmp_path / "train" / name / f"{number}.png")
    (tmp_path / "train" / "dark" / "broken.png").write_bytes(b"broken")
    (tmp_path / "net.yaml").write_text(
        "cnnspec: 1\nname: net\ninput: [1, 4, 4]\nlayers: [flatten, {type: dense, units: 2}]\n"
        "data: {source: {type: image_folder, on_error: skip}}\ntrain: {epochs: 30, batch_size: 4}\n"
    )
    arguments = ["train", str(tmp_path / "net.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--quiet"]) == 0
    assert "cnnspec: note: " in capsys.readouterr().err
    run = str(tmp_path / "runs" / "net")
    assert main(["predict", run, str(tmp_path / "train" / "light" / "0.png"), "--top", "1"]) == 0
    assert "light/0.png: light " in capsys.readouterr().out
    assert main([*arguments, "--set", "data.source.on_error=stop"]) == 4
    assert "broken.png: cannot be read as a picture" in capsys.readouterr().err


def test_a_batch_that_is_larger_than_data_that_only_files_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    (tmp_path / "net.yaml").write_text(
        "cnnspec: 1\nname: net\ninput: [1, 4, 4]\nlayers: [flatten, {type: dense, units: 2}]\n"
        "data: {source: npz}\ntrain: {epochs: 1, batch_size: 32}\n"
    )
    arguments = ["train", str(tmp_path / "net.yaml"), "--data", str(tmp_path), "--out", str(tmp_path), "--quiet"]
    assert main(arguments) == 0
    assert "cnnspec: note: batch_size 32 is more than the 8 training images\n" in capsys.readouterr().err


def test_the_name_of_a_folder_forges_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(
        "cnnspec: 1\ninput: [1, 4, 4]\nlayers: [flatten, {type: dense, units: 2}]\n"
        'data: {source: {type: image_folder, train: "\\e[31mx\\n::error::forged"}}\n'
    )
    assert main(["data", "show", "net.yaml"]) == 4
    told = capsys.readouterr().out
    assert "\\x1b[31mx\\n\\x3a:error::forged: no such folder" in told
    assert "\x1b" not in told
