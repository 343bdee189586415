"""Every code of a diagnostic: its meaning, its reason, and a bad and a good file, which the tests run."""

from __future__ import annotations

from dataclasses import dataclass

from cnnspec.diagnostics.record import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding; `bad` is a file with this finding only, `good` the corrected file."""

    severity: Severity
    title: str
    why: str
    bad: str
    good: str


HEAD = "cnnspec: 1\ninput: [1, 8, 8]\n"
TAIL = "  - flatten\n  - {type: dense, units: 10}\n"
DATA = "data: {source: digits}\n"


def _error(title: str, why: str, bad: str, good: str) -> Code:
    return Code("error", title, why, HEAD + bad, HEAD + good)


def _warning(title: str, why: str, bad: str, good: str) -> Code:
    return Code("warning", title, why, HEAD + bad, HEAD + good)


CATALOGUE: dict[str, Code] = {
    "unreadable-file": Code(
        "error",
        "The file cannot be read.",
        "It may be a link that leads nowhere, or belong to somebody else; the other files are checked all the same.",
        "",
        "",
    ),
    "yaml-syntax": _error(
        "The file is not YAML.",
        "Nothing else can be checked before the file can be read. A tab never indents in YAML.",
        "layers: [relu\n",
        "layers: [relu]\n",
    ),
    "plugin": _error(
        "A plugin that the spec names cannot be used.",
        "A plugin is a Python file that registers layers and the like; it lies in the folder of the spec or below. It "
        "may be missing, fail, register nothing, or take a name that there is already. Verbs that only read a spec, as "
        "validate does, run no program that a spec names: name it with --plugin too, or give --allow-plugins.",
        "plugins: [layers.py]\nlayers: [relu]\n",
        "layers: [relu]\n",
    ),
    "duplicate-key": _error(
        "A key is given twice in one mapping.",
        "Most YAML readers keep the last value in silence, which hides one of the two from the reader.",
        "seed: 1\nseed: 2\nlayers: [relu]\n",
        "seed: 2\nlayers: [relu]\n",
    ),
    "not-utf8": _error(
        "The file is not UTF-8 text.",
        "A spec is text that everybody's tools must read the same.",
        "layers: [relu]  # caf\udce9\n",
        "layers: [relu]  # café\n",
    ),
    "empty-file": Code(
        "error",
        "The file says nothing.",
        "A spec needs at least cnnspec, input and layers.",
        "",
        HEAD + "layers: [relu]\n",
    ),
    "several-documents": _error(
        "The file holds several YAML documents.",
        "One file is one network.",
        "layers: [relu]\n---\nlayers: [tanh]\n",
        "layers: [relu]\n",
    ),
    "too-large": _error(
        "The file asks for more than any spec needs.",
        "Limits on bytes, nesting and expanded aliases keep a small file from filling the memory.",
        "layers: " + "[" * 60 + "]" * 60 + "\n",
        "layers: [relu]\n",
    ),
    "unsupported-version": Code(
        "error",
        "The file is written in another version of the language.",
        "A later version may mean something else by the same words.",
        HEAD.replace("cnnspec: 1", "cnnspec: 2") + "layers: [relu]\n",
        HEAD + "layers: [relu]\n",
    ),
    "unknown-key": _error(
        "A key that nothing reads.",
        "A misspelt key would leave its default in force without a word. Keys that start with x- are free for notes.",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3, pading: 1}\n",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3, padding: 1}\n",
    ),
    "missing-key": _error(
        "A key that has no default is missing.",
        "Some choices nobody can make for you, such as the number of filters.",
        "layers:\n  - {type: conv2d, filters: 4}\n",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3}\n",
    ),
    "invalid-value": _error(
        "A value of the wrong type or out of its range.",
        "3.0 and true are no integers, and text in quotes is no number.",
        "layers:\n  - {type: conv2d, filters: 4.0, kernel_size: 3}\n",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3}\n",
    ),
    "unknown-type": _error(
        "A layer, optimizer, schedule, loss, source or transform that does not exist.",
        "The nearest names are in the help line.",
        "layers: [rellu]\n",
        "layers: [relu]\n",
    ),
    "duplicate-id": _error(
        "Two layers of one scope have the same id, or an id is the name of what an entry makes besides.",
        "A reference must mean one layer.",
        "layers:\n  - {id: a, type: relu}\n  - {id: a, type: tanh, from: a}\n",
        "layers:\n  - {id: a, type: relu}\n  - {id: b, type: tanh, from: a}\n",
    ),
    "unknown-reference": _error(
        "`from` names no layer above.",
        "Layers read what stands above them, so that a graph has no circles.",
        "layers:\n  - relu\n  - {type: add, from: [relu_1, relu_2]}\n",
        "layers:\n  - relu\n  - {type: add, from: [relu_1, input]}\n",
    ),
    "unknown-name": _error(
        "`$name` or `${...}` uses a name that is neither a variable nor a parameter of the block.",
        "Blocks see the variables of the file and their own parameters.",
        "layers:\n  - {type: conv2d, filters: $width, kernel_size: 3}\n",
        "vars: {width: 4}\nlayers:\n  - {type: conv2d, filters: $width, kernel_size: 3}\n",
    ),
    "bad-expression": _error(
        "An expression that cannot be computed.",
        "Expressions know numbers, names, + - * / // %, comparisons, and, or, not, min and max; nothing is run.",
        'layers:\n  - {type: conv2d, filters: "${8 / 0}", kernel_size: 3}\n',
        'layers:\n  - {type: conv2d, filters: "${8 / 2}", kernel_size: 3}\n',
    ),
    "unknown-block": _error(
        "`use` names no block.",
        "Blocks are written under the top-level key blocks.",
        "blocks: {unit: {layers: [tanh]}}\nlayers:\n  - {use: unit}\n  - {use: uint}\n",
        "blocks: {unit: {layers: [tanh]}}\nlayers:\n  - {use: unit}\n  - {use: unit}\n",
    ),
    "unknown-parameter": _error(
        "A block is given a parameter that it does not have.",
        "Like an unknown key, it would change nothing.",
        "blocks: {unit: {params: {slope: 0.1}, layers: [{type: leaky_relu, negative_slope: $slope}]}}\n"
        "layers:\n  - {use: unit, with: {slop: 0.2}}\n",
        "blocks: {unit: {params: {slope: 0.1}, layers: [{type: leaky_relu, negative_slope: $slope}]}}\n"
        "layers:\n  - {use: unit, with: {slope: 0.2}}\n",
    ),
    "missing-parameter": _error(
        "A block is used without a parameter that it requires.",
        "`name: required` in params has no default.",
        "blocks: {unit: {params: {slope: required}, layers: [{type: leaky_relu, negative_slope: $slope}]}}\n"
        "layers:\n  - {use: unit}\n",
        "blocks: {unit: {params: {slope: required}, layers: [{type: leaky_relu, negative_slope: $slope}]}}\n"
        "layers:\n  - {use: unit, with: {slope: 0.1}}\n",
    ),
    "block-recursion": _error(
        "A block uses itself.",
        "It would never end; repeat says how often.",
        "blocks: {unit: {layers: [tanh, {use: unit}]}}\nlayers:\n  - {use: unit}\n",
        "blocks: {unit: {layers: [tanh]}}\nlayers:\n  - {use: unit, repeat: 2}\n",
    ),
    "extends": _error(
        "`extends` leads to no file, or back to this one.",
        "Paths are relative to the file that extends.",
        "extends: nowhere.yaml\nlayers: [relu]\n",
        "layers: [relu]\n",
    ),
    "unknown-path": Code(
        "error",
        "`--set` names a value that the spec does not have.",
        "A change that changes nothing is a mistake.",
        "",
        "",
    ),
    "unknown-metric": _error(
        "`require`, early stopping or a schedule names a figure that no run has.",
        "Training has loss and accuracy; validation and test also have precision, recall, f1 and top_k. There are "
        "figures of validation where data sets images apart for it.",
        "layers: [relu]\nrequire: {test.exactness: '>= 0.9'}\n",
        "layers: [relu]\nrequire: {test.accuracy: '>= 0.9'}\n",
    ),
    "shape-mismatch": _error(
        "A layer does not fit what it reads.",
        "The note shows the shapes that led there.",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 9}\n",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3}\n",
    ),
    "input-mismatch": Code(
        "error",
        "`input` is not the shape of the data's images.",
        "The images come as the source has them, behind data.preprocess.",
        "cnnspec: 1\ninput: [1, 9, 8]\nlayers:\n" + TAIL + DATA,
        HEAD + "layers:\n" + TAIL + DATA,
    ),
    "share-mismatch": _error(
        "A layer cannot use the parameters of another one.",
        "Both need the same parameters, which follow from type, fields and input channels.",
        "layers:\n  - {id: a, type: conv2d, filters: 4, kernel_size: 3}\n"
        "  - {type: conv2d, filters: 4, kernel_size: 3, share: a}\n",
        "layers:\n  - {id: a, type: conv2d, filters: 1, kernel_size: 3}\n"
        "  - {type: conv2d, filters: 1, kernel_size: 3, share: a}\n",
    ),
    "output-mismatch": _error(
        "The network's output does not fit the loss.",
        "A classifier has one output for each class of the data.",
        "layers:\n" + TAIL.replace("10", "12") + DATA + "train: {epochs: 1}\n",
        "layers:\n" + TAIL + DATA + "train: {epochs: 1}\n",
    ),
    "loss-mismatch": _error(
        "One of several losses does not fit what it reads, or the data's target.",
        "Each loss of `losses` reads a layer, and learns the data's target, the input, or nothing at all.",
        "layers:\n" + TAIL + DATA + "train: {epochs: 1, losses: {classes: {layer: scores}}}\n",
        "layers:\n" + TAIL + DATA + "train: {epochs: 1, losses: {classes: {layer: dense_1}}}\n",
    ),
    "expect-not-met": _error(
        "A figure differs from what `expect` says.",
        "`expect` pins parameters, multiply-accumulates, shapes and memory: a review sees when they change.",
        "layers:\n" + TAIL + "expect: {params: 1000}\n",
        "layers:\n" + TAIL + "expect: {params: 650}\n",
    ),
    "unused-var": _warning(
        "A variable that nothing uses.",
        "Somebody will change it and wonder.",
        "vars: {width: 4}\nlayers: [relu]\n",
        "layers: [relu]\n",
    ),
    "unused-block": _warning(
        "A block that nothing uses.",
        "What is in it is not checked either.",
        "blocks: {unit: {layers: [relu]}}\nlayers: [relu]\n",
        "blocks: {unit: {layers: [relu]}}\nlayers: [{use: unit}]\n",
    ),
    "unused-parameter": _warning(
        "A parameter of a block that nothing in the block uses.",
        "Whoever sets it changes nothing.",
        "blocks: {unit: {params: {slope: 0.1}, layers: [relu]}}\nlayers: [{use: unit}]\n",
        "blocks: {unit: {params: {slope: 0.1}, layers: [{type: leaky_relu, negative_slope: $slope}]}}\n"
        "layers: [{use: unit}]\n",
    ),
    "unused-id": _warning(
        "An id that nothing refers to.",
        "Either a reference is missing or the id says nothing. The last layer's id names the output.",
        "layers:\n  - {id: a, type: relu}\n" + TAIL,
        "layers:\n  - relu\n" + TAIL,
    ),
    "unused-ignore": _warning(
        "A comment that silences a code which is not reported on its line.",
        "What it was for is mended or was never there; left alone, it would hide a mistake that comes later.",
        "layers: [relu]  # cnnspec: ignore[unused-id]\n",
        "layers: [relu]\n",
    ),
    "bias-before-norm": _warning(
        "A bias right before batch_norm.",
        "batch_norm subtracts the mean, and the bias with it: its parameters change nothing.",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3}\n  - batch_norm\n" + TAIL,
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3, bias: none}\n  - batch_norm\n" + TAIL,
    ),
    "softmax-before-loss": _warning(
        "A softmax before softmax_cross_entropy.",
        "The loss has the softmax in it; two of them flatten the gradient.",
        "layers:\n" + TAIL + "  - softmax\ntrain: {epochs: 1}\n",
        "layers:\n" + TAIL + "train: {epochs: 1}\n",
    ),
    "dropout-after-output": _warning(
        "Dropout behind the last layer.",
        "It erases class scores at random; dropout belongs before the last dense layer.",
        "layers:\n" + TAIL + "  - dropout\n",
        "layers:\n  - flatten\n  - dropout\n  - {type: dense, units: 10}\n",
    ),
    "rows-dropped": _warning(
        "Windows that leave out the last rows or columns of the map.",
        "With this stride the windows do not reach the edge, and what lies there has no influence.",
        "layers:\n  - {type: max_pool2d, kernel_size: 3, stride: 3}\n" + TAIL,
        "layers:\n  - {type: max_pool2d, kernel_size: 3, stride: 3, padding: same}\n" + TAIL,
    ),
    "window-covers-map": _warning(
        "A pooling window as large as the map.",
        "It means global pooling, which says so and fits every input size.",
        "layers:\n  - {type: avg_pool2d, kernel_size: 8}\n" + TAIL,
        "layers:\n  - global_avg_pool2d\n  - {type: dense, units: 10}\n",
    ),
    "batch-of-one": _warning(
        "batch_norm with a batch size of 1.",
        "The statistics of one image are noise, and of one number there is no variance.",
        "layers:\n  - batch_norm\n" + TAIL + "train: {epochs: 1, batch_size: 1}\n",
        "layers:\n  - batch_norm\n" + TAIL + "train: {epochs: 1, batch_size: 32}\n",
    ),
    "batch-larger-than-data": _warning(
        "A batch size larger than the training images.",
        "Every epoch is one step, and memory is laid out for images that never come.",
        "layers:\n" + TAIL + DATA + "train: {epochs: 1, batch_size: 4096}\n",
        "layers:\n" + TAIL + DATA + "train: {epochs: 1, batch_size: 64}\n",
    ),
    "patience-too-long": _warning(
        "Early stopping whose patience is as long as the training.",
        "It can never end the training, so either the patience or the number of epochs is a mistake.",
        "layers:\n" + TAIL + "train: {epochs: 3, early_stopping: {metric: train.loss, patience: 3}}\n",
        "layers:\n" + TAIL + "train: {epochs: 9, early_stopping: {metric: train.loss, patience: 3}}\n",
    ),
    "warmup-too-long": _warning(
        "A warm-up that takes the whole training.",
        "The learning rate never reaches the value that the spec gives.",
        "layers:\n" + TAIL + "train: {epochs: 3, schedule: {type: constant, warmup: 3}}\n",
        "layers:\n" + TAIL + "train: {epochs: 3, schedule: {type: constant, warmup: 1}}\n",
    ),
    "schedule-never-falls": _warning(
        "A schedule that never lowers the learning rate.",
        "Its first fall comes after the last epoch, or `gamma`, the factor of a fall, is 1 or more.",
        "layers:\n" + TAIL + "train: {epochs: 10, schedule: {type: step, every: 30}}\n",
        "layers:\n" + TAIL + "train: {epochs: 10, schedule: {type: step, every: 3}}\n",
    ),
    "halving-too-late": _warning(
        "A sweep that compares its points only after their training.",
        "No point is left out early, as halving is meant to do; either `first` or the number of epochs is a mistake.",
        "layers:\n" + TAIL + "data: {source: digits, validation: {fraction: 0.2}}\ntrain: {epochs: 3}\n"
        "sweep: {values: {train.batch_size: [8, 16]}, halving: {first: 3}}\n",
        "layers:\n" + TAIL + "data: {source: digits, validation: {fraction: 0.2}}\ntrain: {epochs: 3}\n"
        "sweep: {values: {train.batch_size: [8, 16]}, halving: {first: 1}}\n",
    ),
    "activation-before-loss": _warning(
        "An activation behind the class scores.",
        "The loss squashes the scores itself; a relu before it lets no score be negative, and its gradient dies there.",
        "layers:\n" + TAIL + "  - relu\ntrain: {epochs: 1}\n",
        "layers:\n" + TAIL + "train: {epochs: 1}\n",
    ),
    "single-class": _warning(
        "softmax_cross_entropy on one output.",
        "The softmax of one number is 1: the loss is 0 from the start and nothing is learnt.",
        "layers:\n" + TAIL.replace("10", "1") + "train: {epochs: 1}\n",
        "layers:\n" + TAIL.replace("10", "2") + "train: {epochs: 1}\n",
    ),
    "learning-rate-too-high": _warning(
        "A learning rate at which training falls apart.",
        "adam, adamw, rmsprop and lion move each weight by about the rate itself, which is too far from 0.1 on; the "
        "other optimizers overshoot from 10 on.",
        "layers:\n" + TAIL + "train: {epochs: 1, optimizer: {type: adam, learning_rate: 0.1}}\n",
        "layers:\n" + TAIL + "train: {epochs: 1, optimizer: {type: adam, learning_rate: 0.001}}\n",
    ),
    "dead-layer": _warning(
        "A layer that the output does not depend on.",
        "It is computed for nothing; most often a `from` behind it names another layer than was meant.",
        "layers:\n  - flatten\n  - tanh\n  - {type: dense, units: 10, from: flatten_1}\n",
        "layers:\n  - flatten\n  - tanh\n  - {type: dense, units: 10}\n",
    ),
    "linear-chain": _warning(
        "Two dense layers with no activation between them.",
        "A linear map of a linear map is one linear map: the first layer adds parameters and nothing else.",
        "layers:\n  - flatten\n  - {type: dense, units: 64}\n  - {type: dense, units: 10}\n",
        "layers:\n  - flatten\n  - {type: dense, units: 64}\n  - relu\n  - {type: dense, units: 10}\n",
    ),
    "no-effect": _warning(
        "A layer that gives back what it gets.",
        "A relu of what is never negative, global pooling of one pixel.",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3}\n  - relu\n  - relu\n" + TAIL,
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3}\n  - relu\n" + TAIL,
    ),
    "dropout-before-norm": _warning(
        "Dropout right before batch_norm.",
        "Dropout raises the variance in training alone; batch_norm learns that one and is wrong at inference "
        "(Li et al., 2019).",
        "layers:\n  - {type: dropout, rate: 0.2}\n  - batch_norm\n" + TAIL,
        "layers:\n  - batch_norm\n  - {type: dropout, rate: 0.2}\n" + TAIL,
    ),
    "momentum-reversed": _warning(
        "A momentum of batch_norm that forgets more than it keeps.",
        "It says how much of the running statistics stays at a step, as in Keras; PyTorch's says how much is replaced. "
        "With 0.1 inference normalises by the last batch or two, not by the training images.",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3, bias: none}\n"
        "  - {type: batch_norm, momentum: 0.1}\n" + TAIL,
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3, bias: none}\n"
        "  - {type: batch_norm, momentum: 0.9}\n" + TAIL,
    ),
    "even-kernel": _warning(
        "An even kernel with padding: same.",
        "It has no centre, so that every such layer moves the picture by half a pixel.",
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 4, padding: same}\n" + TAIL,
        "layers:\n  - {type: conv2d, filters: 4, kernel_size: 3, padding: same}\n" + TAIL,
    ),
    "normalize-scale": _warning(
        "normalize with the mean and deviation of bytes.",
        "Pixels enter as 0..1, so that a mean of 33 makes all inputs nearly the same number.",
        "layers:\n" + TAIL + "data: {source: digits, preprocess: [{type: normalize, mean: 78, std: 96}]}\n",
        "layers:\n" + TAIL + "data: {source: digits, preprocess: [{type: normalize, mean: 0.31, std: 0.38}]}\n",
    ),
    "flip-of-digits": _warning(
        "Mirrored digits.",
        "A mirrored 2 is no 2; the network learns from images that it never sees at the test.",
        "layers:\n" + TAIL + "data: {source: digits, augment: [flip]}\n",
        "layers:\n" + TAIL + "data: {source: digits, augment: [{type: shift, pixels: 1}]}\n",
    ),
    "augmentation-too-strong": _warning(
        "An augmentation that leaves little of an image.",
        "A shift or crop by half the image's side, or a cutout as large as the image, can erase what is in it.",
        "layers:\n" + TAIL + "data: {source: digits, augment: [{type: shift, pixels: 6}]}\n",
        "layers:\n" + TAIL + "data: {source: digits, augment: [{type: shift, pixels: 1}]}\n",
    ),
    "split-mismatch": _error(
        "A split that the data cannot give.",
        "It asks for more images than there are, for none, or says fraction and limit at once.",
        "layers:\n" + TAIL + "data: {source: digits, train: {limit: 5000}}\n",
        "layers:\n" + TAIL + "data: {source: digits, train: {limit: 500}}\n",
    ),
}
