"""What the server answers: the network's own figures, whatever form an image comes in."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import Data
from cnnspec.serve import Server
from cnnspec.train.answer import answer
from tests.serve.server import LIMIT, NET, Client, serving, trained


@pytest.fixture(scope="module")
def network() -> tuple[Model, Data]:
    return trained()


@pytest.fixture(scope="module")
def server(network: tuple[Model, Data]) -> Iterator[Server]:
    with serving(*network) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.server_port) as connected:
        yield connected


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def array_of(found: Any) -> Any:
    return np.frombuffer(b64decode(found["float32"]), "<f4").reshape(found["shape"])


PICTURES = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    "body",
    [{"images": PICTURES.tolist()}, npy(PICTURES), npy(np.asfortranarray(PICTURES)), npy(PICTURES[:, 0].astype(">f8"))],
    ids=["JSON", "npy", "npy by columns", "npy of other numbers"],
)
def test_a_batch_in_any_form_is_answered_as_predict_answers(
    body: Any, client: Client, network: tuple[Model, Data]
) -> None:
    model, _ = network
    status, said = client.ask("POST", "/predict?top=4", body)
    outputs = model.outputs(model.pipeline.images(PICTURES))  # type: ignore[union-attr]
    assert status == 200
    assert said["answers"] == [answer(model, output, [str(i) for i in range(10)], 4) for output in outputs]
    assert len(said["answers"][0]["classes"]) == 4
    assert said["notes"] == []


def test_a_picture_file_enters_as_predict_reads_it(client: Client, tmp_path: Path, network: tuple[Model, Data]) -> None:
    image = pytest.importorskip("PIL.Image")
    colours = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    image.fromarray(colours).save(tmp_path / "picture.png")
    model, _ = network
    prepared, _ = model.pipeline.picture(tmp_path / "picture.png")  # type: ignore[union-attr]
    status, said = client.ask("POST", "/predict", (tmp_path / "picture.png").read_bytes())
    assert status == 200
    assert said["answers"] == [answer(model, model.outputs(prepared)[0])]
    assert said["notes"] == ["1 picture in colour: made grey", "1 picture of another size: resized to 8x8"]


def test_test_images_are_asked_by_number(client: Client, network: tuple[Model, Data]) -> None:
    model, data = network
    listed = client.ask("GET", "/test-images?start=20")[1]
    assert listed["count"] == len(data.test)
    assert [image["number"] for image in listed["images"]] == list(range(20, 44))
    assert [image["label"] for image in listed["images"]] == [str(label) for label in data.test.labels[20:44]]
    said = client.ask("POST", "/predict", {"test_image": [20, 21]})[1]
    assert said["answers"] == [answer(model, output) for output in model.outputs(data.test.pixels[20:22])]


def test_activations_are_those_of_the_model(client: Client, network: tuple[Model, Data]) -> None:
    model, _ = network
    said = client.ask("POST", "/activations", npy(PICTURES[:1]))[1]
    assert [layer["name"] for layer in said["layers"]] == [node.name for node in model.graph.nodes]
    for layer in said["layers"]:
        np.testing.assert_array_equal(array_of(layer), model.activations(PICTURES[:1], layer["name"])[0])
    one = client.ask("POST", "/activations?layer=relu_1", npy(PICTURES[:1]))[1]
    assert one["layers"] == [said["layers"][1]]
    scale, shift = model.pipeline.affine  # type: ignore[union-attr]
    prepared = model.pipeline.images(PICTURES[:1])[0]  # type: ignore[union-attr]
    np.testing.assert_allclose(array_of(said["input"]), prepared * scale + shift, rtol=1e-6)


def test_the_spec_and_the_weights(client: Client, network: tuple[Model, Data]) -> None:
    model, _ = network
    told = client.ask("GET", "/spec")[1]
    assert told["image"] == [1, 8, 8]
    assert told["input"] == [1, 16, 16]
    assert told["parameters"] == model.graph.parameter_count
    assert cnnspec.compile(told["spec"]).graph.parameter_count == model.graph.parameter_count
    second = told["layers"][2]
    assert second["window"] == {
        "kernel": [3, 3],
        "stride": [1, 1],
        "dilation": [1, 1],
        "padding": [0, 0],
        "groups": 2,
    }
    weights = client.ask("GET", f"/weights?layer={second['name']}")[1]["weights"]
    np.testing.assert_array_equal(array_of(weights["weight"]), model.params[f"{second['name']}.weight"])
    assert client.ask("GET", "/health")[1] == {"status": "ok", "name": "net", "weights": model.fingerprint()}
    assert client.ask("HEAD", "/health")[1] == b""


def test_the_openapi_document_is_one(client: Client) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="no openapi-spec-validator")
    document = client.ask("GET", "/openapi.json")[1]
    validator.validate(document)
    for path, methods in document["paths"].items():
        for method in methods:
            assert client.ask(method.upper(), path)[0] in (200, 400)  # 400: it wants a body, or a layer


def test_clients_at_once_get_their_own_answers(server: Server, network: tuple[Model, Data]) -> None:
    model, data = network
    wanted = [answer(model, model.outputs(data.test.pixels[i : i + 1])[0]) for i in range(40)]
    wrong: list[int] = []

    def ask(first: int) -> None:
        with Client(server.server_port) as own:
            for i in range(first, 40, 4):
                status, said = own.ask("POST", "/predict", {"test_image": i})
                if status != 200 or said["answers"] != [wanted[i]]:
                    wrong.append(i)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_numbers_that_are_not_finite_are_null() -> None:
    model, data = trained()
    model.params["logits.bias"][...] = np.nan
    with serving(model, data) as server, Client(server.server_port) as client:
        status, said = client.ask("POST", "/predict?top=1", {"test_image": 0})
    assert status == 200
    assert said["answers"][0]["classes"][0]["score"] is None


def test_without_data_there_are_no_test_images(network: tuple[Model, Data]) -> None:
    with serving(network[0], None) as server, Client(server.server_port) as client:
        assert client.ask("GET", "/test-images")[1] == {"count": 0, "images": []}
        status, said = client.ask("POST", "/predict", {"test_image": 0})
        assert (status, said["error"]) == (400, "test_image: expected no test_image, as the data is not here, got 0")
        assert client.ask("POST", "/predict", npy(PICTURES))[0] == 200


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to end it by")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_verb_prints_the_port_and_ends_cleanly(ending: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET.replace("epochs: 8", "epochs: 1"))
    assert main(["train", str(tmp_path / "net.yaml"), "--quiet", "--out", str(tmp_path)]) == 0
    # Where the tests run in the background of a shell, SIGINT is ignored, and a child would inherit that.
    program = (
        "import signal, sys; from cnnspec.cli import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, "serve", str(tmp_path / "net"), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line.startswith("net at http://127.0.0.1:")
        port = int(line.split(":")[2].split("/")[0])
        with Client(port) as client:
            assert client.ask("GET", "/health")[1]["name"] == "net"
            told = client.ask("GET", "/spec")[1]
        assert told["test_images"] == 360
        assert str(tmp_path) not in str(told)
        started.send_signal(ending)
        out, errors = started.communicate(timeout=LIMIT)
    assert (started.returncode, out, errors) == (0, "", "ended\n")


def test_a_port_that_is_taken_is_said(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.yaml").write_text(NET.replace("epochs: 8", "epochs: 1"))
    assert main(["train", str(tmp_path / "net.yaml"), "--quiet", "--out", str(tmp_path)]) == 0
    port = str(server.server_address[1])
    assert main(["serve", str(tmp_path / "net"), "--port", port]) == 4
    assert f"cannot listen at 127.0.0.1:{port}" in capsys.readouterr().err
