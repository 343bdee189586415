"""Selects the converter for a file by its suffix."""

from __future__ import annotations

from pathlib import Path

from cnnspec.convert import caffe_network, darknet, keras_network, onnx_conversion
from cnnspec.convert.converted import Converted
from cnnspec.convert.refusal import ConversionError
from cnnspec.shapes import Shape


def convert(
    path: Path, *, weights: Path | None = None, until: str | None = None, input_shape: Shape | None = None
) -> Converted:
    """Convert a file; ConversionError with everything that a spec cannot express, OSError if there is no file.

    `weights` is a second file where the format has two; `until` names the node or value that the network ends with,
    `input_shape` is the shape of one image (c, h, w) where the file leaves it open.
    """
    if path.suffix == ".cfg":
        return darknet.convert(path, weights, until=until, input_shape=input_shape)
    if path.suffix == ".prototxt":
        return caffe_network.convert(path, weights, until=until, input_shape=input_shape)
    if weights is not None:
        raise ConversionError([f"{path} has its weights in it, got --weights {weights}"], "leave --weights out")
    if path.suffix in (".keras", ".h5", ".hdf5", ".json"):
        return keras_network.convert(path, until=until, input_shape=input_shape)
    return onnx_conversion.convert(path, until=until, input_shape=input_shape)
