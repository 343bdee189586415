"""The part of Caffe's protobuf messages that is read: number, type and default of each field."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from cnnspec.diagnostics import RunError

PACKAGE = "cnnspec.caffe"
MANY = "*"  # before a type: repeated
VALUES = "Values"
ENUMS = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "RoundMode": {"CEIL": 0, "FLOOR": 1},
    "NormRegion": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    "EltwiseOp": {"PROD": 0, "SUM": 1, "MAX": 2},
    "Engine": {"DEFAULT": 0, "CAFFE": 1, "CUDNN": 2},
}
Fields = dict[str, tuple[int, str] | tuple[int, str, str]]
MESSAGES: dict[str, Fields] = {
    "BlobShape": {"dim": (1, "*int64")},
    "BlobProto": {
        "num": (1, "int32"),
        "channels": (2, "int32"),
        "height": (3, "int32"),
        "width": (4, "int32"),
        "data": (5, "*float"),
        "shape": (7, "BlobShape"),
        "double_data": (8, "*double"),
    },
    "NetStateRule": {"phase": (1, "Phase")},
    "TransformationParameter": {},
    "FillerParameter": {},
    "ParamSpec": {"name": (1, "string")},
    "ConvolutionParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool", "true"),
        "pad": (3, "*uint32"),
        "kernel_size": (4, "*uint32"),
        "group": (5, "uint32", "1"),
        "stride": (6, "*uint32"),
        "weight_filler": (7, "FillerParameter"),
        "bias_filler": (8, "FillerParameter"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "kernel_h": (11, "uint32"),
        "kernel_w": (12, "uint32"),
        "stride_h": (13, "uint32"),
        "stride_w": (14, "uint32"),
        "engine": (15, "Engine"),
        "axis": (16, "int32", "1"),
        "dilation": (18, "*uint32"),
    },
    "PoolingParameter": {
        "pool": (1, "PoolMethod"),
        "kernel_size": (2, "uint32"),
        "stride": (3, "uint32", "1"),
        "pad": (4, "uint32"),
        "kernel_h": (5, "uint32"),
        "kernel_w": (6, "uint32"),
        "stride_h": (7, "uint32"),
        "stride_w": (8, "uint32"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "engine": (11, "Engine"),
        "global_pooling": (12, "bool"),
        "round_mode": (13, "RoundMode"),
    },
    "InnerProductParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool", "true"),
        "weight_filler": (3, "FillerParameter"),
        "bias_filler": (4, "FillerParameter"),
        "axis": (5, "int32", "1"),
        "transpose": (6, "bool"),
    },
    "LRNParameter": {
        "local_size": (1, "uint32", "5"),
        "alpha": (2, "float", "1"),
        "beta": (3, "float", "0.75"),
        "norm_region": (4, "NormRegion"),
        "k": (5, "float", "1"),
        "engine": (6, "Engine"),
    },
    "ReLUParameter": {"negative_slope": (1, "float"), "engine": (2, "Engine")},
    "BatchNormParameter": {
        "use_global_stats": (1, "bool"),
        "moving_average_fraction": (2, "float", "0.999"),
        "eps": (3, "float", "1e-05"),
    },
    "ScaleParameter": {
        "axis": (1, "int32", "1"),
        "num_axes": (2, "int32", "1"),
        "filler": (3, "FillerParameter"),
        "bias_term": (4, "bool"),
        "bias_filler": (5, "FillerParameter"),
    },
    "BiasParameter": {"axis": (1, "int32", "1"), "num_axes": (2, "int32", "1"), "filler": (3, "FillerParameter")},
    "EltwiseParameter": {"operation": (1, "EltwiseOp", "SUM"), "coeff": (2, "*float"), "stable_prod_grad": (3, "bool")},
    "ConcatParameter": {"concat_dim": (1, "uint32", "1"), "axis": (2, "int32", "1")},
    "SoftmaxParameter": {"engine": (1, "Engine"), "axis": (2, "int32", "1")},
    "DropoutParameter": {"dropout_ratio": (1, "float", "0.5")},
    "PowerParameter": {"power": (1, "float", "1"), "scale": (2, "float", "1"), "shift": (3, "float")},
    "PReLUParameter": {"filler": (1, "FillerParameter"), "channel_shared": (2, "bool")},
    "ELUParameter": {"alpha": (1, "float", "1")},
    "ExpParameter": {"base": (1, "float", "-1"), "scale": (2, "float", "1"), "shift": (3, "float")},
    "FlattenParameter": {"axis": (1, "int32", "1"), "end_axis": (2, "int32", "-1")},
    "ReshapeParameter": {"shape": (1, "BlobShape"), "axis": (2, "int32"), "num_axes": (3, "int32", "-1")},
    "SliceParameter": {"slice_dim": (1, "uint32", "1"), "slice_point": (2, "*uint32"), "axis": (3, "int32", "1")},
    "InputParameter": {"shape": (1, "*BlobShape")},
    "LayerParameter": {
        "name": (1, "string"),
        "type": (2, "string"),
        "bottom": (3, "*string"),
        "top": (4, "*string"),
        "loss_weight": (5, "*float"),
        "param": (6, "*ParamSpec"),
        "blobs": (7, "*BlobProto"),
        "include": (8, "*NetStateRule"),
        "exclude": (9, "*NetStateRule"),
        "phase": (10, "Phase"),
        "transform_param": (100, "TransformationParameter"),
        "concat_param": (104, "ConcatParameter"),
        "convolution_param": (106, "ConvolutionParameter"),
        "dropout_param": (108, "DropoutParameter"),
        "eltwise_param": (110, "EltwiseParameter"),
        "exp_param": (111, "ExpParameter"),
        "inner_product_param": (117, "InnerProductParameter"),
        "lrn_param": (118, "LRNParameter"),
        "pooling_param": (121, "PoolingParameter"),
        "power_param": (122, "PowerParameter"),
        "relu_param": (123, "ReLUParameter"),
        "softmax_param": (125, "SoftmaxParameter"),
        "slice_param": (126, "SliceParameter"),
        "prelu_param": (131, "PReLUParameter"),
        "reshape_param": (133, "ReshapeParameter"),
        "flatten_param": (135, "FlattenParameter"),
        "batch_norm_param": (139, "BatchNormParameter"),
        "elu_param": (140, "ELUParameter"),
        "bias_param": (141, "BiasParameter"),
        "scale_param": (142, "ScaleParameter"),
        "input_param": (143, "InputParameter"),
    },
    "OldLayer": {"name": (4, "string"), "blobs": (6, "*BlobProto")},
    "NetParameter": {
        "name": (1, "string"),
        "layers": (2, "*OldLayer"),
        "input": (3, "*string"),
        "input_dim": (4, "*int32"),
        "input_shape": (8, "*BlobShape"),
        "layer": (100, "*LayerParameter"),
    },
}


@cache
def net_parameter() -> Any:
    """Return the message class of a whole network; RunError if protobuf is not installed."""
    try:
        descriptors: Any = importlib.import_module("google.protobuf.descriptor_pb2")
        pools: Any = importlib.import_module("google.protobuf.descriptor_pool")
        factory: Any = importlib.import_module("google.protobuf.message_factory")
    except ImportError as error:
        raise RunError("protobuf is not installed", "python -m pip install 'cnnspec[caffe]'") from error
    file = descriptors.FileDescriptorProto(name="cnnspec_caffe.proto", package=PACKAGE, syntax="proto2")
    for name, values in ENUMS.items():
        enum = file.message_type.add(name=name).enum_type.add(name=VALUES)  # names of values are unique in a message
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    kinds = descriptors.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, *default) in fields.items():
            repeated, kind = kind.startswith(MANY), kind.removeprefix(MANY)
            made = message.field.add(name=field, number=number)
            made.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in MESSAGES or kind in ENUMS:
                made.type = kinds.TYPE_MESSAGE if kind in MESSAGES else kinds.TYPE_ENUM
                made.type_name = f".{PACKAGE}.{kind}" + (f".{VALUES}" if kind in ENUMS else "")
            else:
                made.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if default:
                made.default_value = default[0]
    pool = pools.DescriptorPool()
    pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.NetParameter"))
