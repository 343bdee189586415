"""Words of other frameworks: each gets the right answer, and where it stands for one word, the fix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnspec.check import checked
from cnnspec.cli import main
from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.registry import PACKAGES, table
from cnnspec.spec import loads
from cnnspec.spec.load import BUDGETS, KEYS, METRICS
from cnnspec.spec.mend import mend
from cnnspec.spec.schema import schema
from cnnspec.spec.words import TYPES

HEAD = "cnnspec: 1\ninput: [3, 32, 32]\n"
TRAIN = "layers: [flatten, {type: dense, units: 10}]\ntrain: "

# Where a word stands (WORD), and for each word the one that is meant.
MEANT = {
    "layers: [{type: WORD}]": """
        Conv2D=conv2d nn.Conv2d=conv2d torch.nn.Conv2d=conv2d keras.layers.Conv2D=conv2d Convolution=conv2d
        Convolution2D=conv2d convolutional=conv2d Conv=conv2d DepthwiseConv2D=depthwise_conv2d
        SeparableConv2D=separable_conv2d Conv2DTranspose=conv_transpose2d nn.ConvTranspose2d=conv_transpose2d
        Deconvolution=conv_transpose2d deconvolutional=conv_transpose2d nn.Linear=dense InnerProduct=dense Dense=dense
        connected=dense fully_connected=dense fc=dense MaxPooling2D=max_pool2d nn.MaxPool2d=max_pool2d
        maxpool=max_pool2d AveragePooling2D=avg_pool2d nn.AvgPool2d=avg_pool2d avgpool=avg_pool2d
        GlobalAveragePooling2D=global_avg_pool2d GlobalMaxPooling2D=global_max_pool2d
        nn.AdaptiveAvgPool2d=adaptive_avg_pool2d BatchNormalization=batch_norm nn.BatchNorm2d=batch_norm
        BatchNorm=batch_norm nn.SyncBatchNorm=batch_norm LayerNormalization=layer_norm nn.LayerNorm=layer_norm
        GroupNormalization=group_norm nn.GroupNorm=group_norm nn.InstanceNorm2d=instance_norm LRN=local_response_norm
        nn.LocalResponseNorm=local_response_norm UpSampling2D=upsample2d nn.Upsample=upsample2d upsample=upsample2d
        ZeroPadding2D=zero_pad2d nn.ZeroPad2d=zero_pad2d Cropping2D=crop2d nn.PixelShuffle=pixel_shuffle
        depth_to_space=pixel_shuffle ShuffleChannel=channel_shuffle nn.Flatten=flatten Reshape=reshape Permute=permute
        Dropout=dropout nn.Dropout2d=spatial_dropout2d SpatialDropout2D=spatial_dropout2d StochasticDepth=drop_path
        Add=add Concatenate=concat Concat=concat cat=concat Multiply=multiply ReLU=relu nn.LeakyReLU=leaky_relu
        leaky=leaky_relu nn.ReLU6=relu6 nn.Hardswish=hard_swish nn.Hardsigmoid=hard_sigmoid nn.SiLU=silu swish=silu
        logistic=sigmoid Sigmoid=sigmoid nn.PReLU=prelu GELU=gelu nn.ELU=elu TanH=tanh Softmax=softmax nn.Mish=mish
        torch.clamp=clip nn.Hardtanh=clip Scale=scale_shift nn.ReflectionPad2d=pad2d Subtract=subtract Maximum=maximum
    """,
    "layers: [{type: conv2d, filters: 4, kernel_size: 3, WORD: 1}]": """
        strides=stride pad=padding dilation_rate=dilation group=groups use_bias=bias bias_term=bias act=activation
        kernel_initializer=weight_init weight_filler=weight_init bias_initializer=bias_init name=id bottom=from
        inputs=from kernel_regularizer=weight_decay
    """,
    "layers: [{type: conv2d, kernel_size: 3, WORD: 1}]": "out_channels=filters num_output=filters nb_filter=filters",
    "layers: [{type: conv2d, filters: 4, WORD: 1}]": "size=kernel_size ksize=kernel_size k=kernel_size",
    "layers: [{type: max_pool2d, WORD: 2}]": "pool_size=kernel_size kernel=kernel_size",
    "layers: [flatten, {type: dense, WORD: 2}]": "out_features=units num_output=units hidden_size=units filters=units",
    "layers: [{type: leaky_relu, WORD: 0.1}]": "alpha=negative_slope",
    "layers: [{type: dropout, WORD: 0.1}]": "p=rate prob=rate dropout_ratio=rate",
    "layers: [{type: batch_norm, WORD: 0.1}]": "eps=epsilon",
    "layers: [{use: squeeze_excite, with: {filters: 3}, WORD: 2}]": "repeats=repeat n=repeat",
    TRAIN + "{epochs: 1, loss: WORD}": """
        categorical_crossentropy=softmax_cross_entropy sparse_categorical_crossentropy=softmax_cross_entropy
        nn.CrossEntropyLoss=softmax_cross_entropy cross_entropy=softmax_cross_entropy
        SoftmaxWithLoss=softmax_cross_entropy binary_crossentropy=binary_cross_entropy
        nn.BCEWithLogitsLoss=binary_cross_entropy bce=binary_cross_entropy mse=mean_squared_error
        nn.MSELoss=mean_squared_error EuclideanLoss=mean_squared_error nn.SmoothL1Loss=huber HuberLoss=huber
        mae=mean_absolute_error nn.L1Loss=mean_absolute_error DiceLoss=dice
    """,
    TRAIN + "{epochs: 1, optimizer: WORD}": "torch.optim.SGD=sgd Adam=adam AdamW=adamw RMSprop=rmsprop AdaGrad=adagrad",
    TRAIN + "{epochs: 1, optimizer: {WORD: adam}}": "name=type class_name=type",
    TRAIN
    + "{epochs: 1, optimizer: {type: sgd, WORD: 0.1}}": "lr=learning_rate base_lr=learning_rate lr0=learning_rate",
    TRAIN + "{epochs: 1, optimizer: {type: adam, WORD: 0.1}}": "beta_1=beta1 beta_2=beta2 decay=weight_decay",
    TRAIN + "{epochs: 1, optimizer: {type: rmsprop, WORD: 0.9}}": "rho=memory alpha=memory",
    TRAIN + "{epochs: 1, schedule: WORD}": """
        CosineAnnealingLR=cosine CosineDecay=cosine poly=polynomial OneCycleLR=one_cycle ReduceLROnPlateau=plateau
    """,
    TRAIN + "{epochs: 1, schedule: {type: WORD, every: 1}}": "StepLR=step ExponentialLR=exponential",
    TRAIN + "{epochs: 1, schedule: {type: step, every: 1, WORD: 0.5}}": "lr_decay=gamma factor=gamma",
    TRAIN + "{epochs: 1, schedule: {type: cosine, WORD: 0}}": "eta_min=minimum min_lr=minimum warmup_epochs=warmup",
    TRAIN + "{epochs: 1, WORD: 3}": """
        batch=batch_size bs=batch_size criterion=loss scheduler=schedule lr_scheduler=schedule lr_policy=schedule
        grad_clip=clip accumulate_grad_batches=accumulate iter_size=accumulate early_stop=early_stopping
    """,
    TRAIN + "{WORD: 3}": "max_epochs=epochs num_epochs=epochs",
    "layers: [relu]\nWORD: 1": """
        backbone=layers network=layers model=layers trainer=train training=train solver=train dataset=data
        random_seed=seed variables=vars params=vars modules=blocks include=extends
    """,
    "layers: [relu]\ndata: {source: digits, WORD: 1}": """
        path=root val=validation transforms=preprocess augmentations=augment
    """,
    "layers: [relu]\ndata: {source: WORD}": """
        ImageFolder=image_folder MNIST=mnist CIFAR10=cifar10 FashionMNIST=fashion_mnist
    """,
    "layers: [relu]\ndata: {source: digits, preprocess: [WORD]}": "ToTensor=scale Rescaling=scale Resize=resize",
    "layers: [relu]\ndata: {source: digits, augment: [WORD]}": """
        RandomHorizontalFlip=flip RandomCrop=crop RandomRotation=rotate RandomErasing=cutout CutMix=cutmix fliplr=flip
    """,
    "layers: [flatten, {type: dense, units: 3, weight_init: WORD}]": """
        kaiming_normal=he xavier=glorot msra=he gaussian=normal
    """,
    "layers: [relu]\nrequire: {WORD: '>= 0.9'}": """
        accuracy=test.accuracy val_accuracy=validation.accuracy val_loss=validation.loss test_acc=test.accuracy
    """,
}

# Words that are more than a word here: what the help says.
TOLD = {
    "layers: [{type: WORD}]": {
        "Pooling": "max_pool2d or avg_pool2d",
        "Activation": "write the function itself",
        "route": "type: concat, from: [a, b]",
        "shortcut": "type: add, from: [a, b]",
        "Eltwise": "type: add or type: multiply",
        "nn.Sequential": "write the list itself",
        "InputLayer": "input: [channels, height, width]",
        "nn.Identity": "leave it out",
        "C2f": "under blocks",
        "SEBlock": "write - squeeze_excite",
        "nn.LogSoftmax": "reads logits",
    },
    "layers: [{type: conv2d, filters: 4, kernel_size: 3, WORD: 1}]": {
        "in_channels": "the channels that arrive are known",
        "data_format": "channels, height, width",
        "weight_norm": "{type: weight_norm, layer: {type: ...}}",
        "batch_normalize": "write - batch_norm below",
        "padding_mode": "type: pad2d, mode: reflect",
        "inplace": "leave it out",
    },
    "layers: [{type: batch_norm, WORD: 1}]": {
        "num_features": "are known",
        "axis": "channels are meant",
        "affine": "trainable: false",
        "track_running_stats": "always kept",
    },
    "layers: [{type: dropout, WORD: 0.9}]": {"keep_prob": "1 - keep_prob"},
    "layers: [{type: relu, WORD: true}]": {"frozen": "write trainable: false", "freeze": "write trainable: false"},
    "layers: [relu]\nWORD: 1": {
        "epochs": "train: {epochs: ...}",
        "batch_size": "train: {batch_size: ...}",
        "optimizer": "train: {optimizer: ...}",
        "loss": "train: {loss: ...}",
        "lr": "learning_rate: ...",
        "learning_rate": "learning_rate: ...",
        "metrics": "always measured",
        "nc": "units of the last dense layer",
        "head": "below the others",
        "input_features": "input: [channels, height, width]",
        "output_features": "the last layer is the output",
        "description": "x-description",
    },
    TRAIN + "{epochs: 1, WORD: 1}": {
        "metrics": "always measured",
        "lr": "train.optimizer.learning_rate",
        "learning_rate": "train.optimizer.learning_rate",
        "momentum": "optimizer: {type: sgd, momentum: ...}",
        "patience": "early_stopping: {patience: ...}",
        "callbacks": "leave it out",
        "shuffle": "drawn anew",
        "label_smoothing": "label_smoothing: ...}",
        "validation_split": "validation: {fraction: ...}",
        "clipnorm": "clip: {norm: ...}",
        "max_iter": "epochs: ...",
        "num_workers": "--threads N",
    },
    TRAIN + "{epochs: 1, optimizer: {type: adam, WORD: 1}}": {"betas": "beta1: ... and beta2: ..."},
    TRAIN + "{epochs: 1, schedule: {type: cosine, WORD: 1}}": {"T_max": "ends with the last epoch"},
    "layers: [flatten, {type: dense, units: 3, weight_init: WORD}]": {
        "he_uniform": "{type: he, distribution: uniform}",
        "xavier_uniform": "{type: glorot, distribution: uniform}",
    },
    "layers: [relu]\nexpect: {WORD: 1}": {"flops": "a multiply-accumulate is two FLOPs"},
}

CONV = "layers: [{type: conv2d, filters: 4, kernel_size: 3, padding: same, WORD}]"
WRITTEN = [  # what is written, and what --fix makes of it
    (CONV.replace("padding: same, WORD", "padding: SAME"), "padding: SAME", "padding: same"),
    (CONV.replace("padding: same, WORD", "padding: VALID"), "padding: VALID", "padding: valid"),
    (CONV.replace("WORD", "bias: false"), "bias: false", "bias: none"),
    (CONV.replace("WORD", "bias: true"), "bias: true", "bias: channel"),
    (CONV.replace("WORD", "use_bias: false"), "use_bias: false", "bias: none"),
    (CONV.replace("WORD", "strides: (1, 1)"), "strides: (1, 1)", "stride: [1, 1]"),
    (CONV.replace("kernel_size: 3", "kernel_size: (3, 3)"), "(3, 3)", "[3, 3]"),
    (CONV.replace("kernel_size: 3", "kernel_size: 3x3"), "3x3", "[3, 3]"),
    (CONV.replace("filters: 4", "filters: 4.0"), "filters: 4.0", "filters: 4"),
    (CONV.replace("filters: 4", "filters: 1e1"), "filters: 1e1", "filters: 10"),
    (CONV.replace("filters: 4", 'filters: "4"'), 'filters: "4"', "filters: 4"),
    (CONV.replace("WORD", "activation: linear"), "activation: linear", "activation: null"),
    (CONV.replace("WORD", "activation: swish"), "activation: swish", "activation: silu"),
    (CONV.replace("WORD", "activation: None"), "activation: None", "activation: null"),
    (CONV.replace("WORD", "trainable: no"), "trainable: no", "trainable: false"),
    (CONV.replace("WORD", "requires_grad: off"), "requires_grad: off", "trainable: false"),
    ("layers: [{type: parallel, branches: [[], []], merge: sum}]", "merge: sum", "merge: add"),
    ("layers: [{type: parallel, branches: [[], []], merge: cat}]", "merge: cat", "merge: concat"),
    ("layers: [{type: residual, body: [relu], shortcut: true}]", "shortcut: true", "shortcut: auto"),
    ("layers: [{type: residual, body: [relu], shortcut: 1x1}]", "shortcut: 1x1", "shortcut: projection"),
    ("layers: [{type: dropout, rate: 1/4}]", "rate: 1/4", 'rate: "${1/4}"'),
    (TRAIN + "{epochs: 1, batch_size: 20.0}", "batch_size: 20.0", "batch_size: 20"),
    (
        TRAIN + "{epochs: 1, optimizer: {name: Adam, lr: 0.1}}",
        "{name: Adam, lr: 0.1}",
        "{type: adam, learning_rate: 0.1}",
    ),
    ("layers: [relu]\nseed: 3.0", "seed: 3.0", "seed: 3"),
    ("layers: [relu]\nexpect: {params: 0.0}", "params: 0.0", "params: 0"),
    ("layers: [{use: u, repeat: 2.0}]\nblocks: {u: {layers: [tanh]}}", "repeat: 2.0", "repeat: 2"),
]

Case = tuple[str, str, str]


def meant() -> Iterator[Case]:
    for text, words in MEANT.items():
        for pair in words.split():
            word, own = pair.split("=")
            yield text, word, own


def findings(text: str) -> list[Diagnostic]:
    try:
        checked(loads(HEAD + text, "f.yaml"))
    except SpecError as error:
        return list(error.diagnostics)
    return []


def answered(text: str, word: str) -> Diagnostic:
    """The finding about a word, which stands where WORD is."""
    written = HEAD + text.replace("WORD", word)
    line = HEAD.count("\n") + text[: text.index("WORD")].count("\n") + 1
    column = written.splitlines()[line - 1].index(word) + 1
    found = [found for found in findings(text.replace("WORD", word)) if found.span.line == line]
    assert found, f"{word} is taken"
    return min(found, key=lambda found: abs(found.span.column - column))


@pytest.mark.parametrize(("text", "word", "own"), list(meant()))
def test_a_word_is_answered_with_the_one_that_is_meant(text: str, word: str, own: str) -> None:
    found = answered(text, word)
    assert word in found.message
    assert found.help == f"did you mean {own}?"
    assert found.fix is not None
    assert found.fix.replacement == own


@pytest.mark.parametrize(
    ("text", "word", "help"), [(text, word, help) for text, words in TOLD.items() for word, help in words.items()]
)
def test_what_is_more_than_a_word_is_told(text: str, word: str, help: str) -> None:
    found = answered(text, word)
    assert word in found.message
    assert help in (found.help or "")
    assert found.help
    assert found.fix is None


@pytest.mark.parametrize(("text", "written", "mended"), WRITTEN)
def test_what_is_written_otherwise_is_mended(text: str, written: str, mended: str) -> None:
    text = HEAD + text.replace(", WORD", "")
    assert written in text
    wanted, seen = text.replace(written, mended), findings(text[len(HEAD) :])
    assert seen
    assert all(found.help for found in seen)
    for _ in range(3):
        text, _ = mend(text, "f.yaml", findings(text[len(HEAD) :]))
    assert text == wanted
    assert not findings(text[len(HEAD) :])


def test_the_words_are_many() -> None:
    assert len({word for _, word, _ in meant()} | {word for words in TOLD.values() for word in words}) >= 200


def test_every_word_of_a_type_leads_to_something_that_there_is() -> None:
    for kind, words in TYPES.items():
        assert set(words) <= set(table(kind)), kind


@pytest.mark.parametrize("topic", ["nn.Conv2d", "MaxPooling2D", "strides", "route", "lr", "epochs", "in_channels"])
def test_explain_knows_them(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", topic]) == 0
    assert topic in capsys.readouterr().out


def test_the_schema_names_them() -> None:
    definitions = schema()["definitions"]
    assert "nn.Conv2d" not in definitions["layer.conv2d"]["description"]
    assert "Convolution2D" in definitions["layer.conv2d"]["description"]
    assert "strides" in definitions["layer.conv2d"]["properties"]["stride"]["description"]


def test_no_word_of_ours_is_taken_for_another() -> None:
    """A key or type that is right where it stands is never answered."""
    ours = {*KEYS, *BUDGETS, *METRICS, *(name for kind in PACKAGES for name in table(kind))}
    assert len(ours) > 100
    for kind, words in TYPES.items():
        for own, others in words.items():
            assert not {word for word in others.split() if word in table(kind)} - {own}


def test_a_number_is_told_in_lists_too() -> None:
    (found,) = findings("layers: [{type: conv2d, filters: 4, kernel_size: [3.0, 3]}]")
    assert found.message == "kernel_size[0]: expected an integer at least 1, got 3.0"
    assert found.help == "write 3"


def test_several_losses() -> None:
    (found,) = findings(TRAIN + "{epochs: 1, loss: zzzzzzzzz}")
    assert (found.help or "").startswith("known losses: softmax_cross_entropy")


def test_a_position_is_no_reference() -> None:
    (found,) = findings("layers: [relu, {type: relu, from: -1}]")
    assert found.help == "give that layer an id, and name it here: from: ID"


def test_the_value_in_a_mapping_that_is_wrong_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        loads(f"{HEAD}{TRAIN}{{epochs: 1, loss: {{type: softmax_cross_entropy, class_weights: {{cat: -1}}}}}}\n")
    assert "class_weights.cat: expected a number at least 0, got -1" in str(caught.value)


def test_class_weights_of_a_loss_without_classes_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        loads(f"{HEAD}{TRAIN}{{epochs: 1, loss: {{type: mean_output, class_weights: balanced}}}}\n")
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.help) == ("unknown-key", "leave it out: this loss compares nothing with classes")
