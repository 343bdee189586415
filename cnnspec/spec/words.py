"""The words of Keras, PyTorch, Ultralytics, Darknet, Caffe and Ludwig, and their equivalents in specs.

One table serves the messages of `validate`, the fixes of `--fix`, the pages of `explain` and the descriptions in the
schema. Words are compared without case, underscores, dashes and the names of modules: `nn.Conv2d` is `CONV2D`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache

_MODULE = re.compile(
    r"^((nn|torch|tf|tensorflow|keras|layers|functional|F|optim|caffe|torchvision|ops|transforms|v2|losses|optimizers"
    r"|initializers|init|lr_scheduler|schedules|datasets|ludwig|ultralytics)\.)+"
)
_RULE = re.compile(r"[-_ ]")

# Types, by kind: each registered name, and its names in other frameworks.
TYPES: dict[str, dict[str, str]] = {
    "layer": {
        "conv2d": "Conv2D Conv Convolution Convolution2D convolutional conv_2d",
        "depthwise_conv2d": "DepthwiseConv2D DWConv depthwise DepthwiseConv ConvolutionDepthwise",
        "separable_conv2d": "SeparableConv2D SeparableConv SepConv SeparableConvolution2D",
        "conv_transpose2d": "Conv2DTranspose ConvTranspose2d Deconvolution deconv deconvolutional Deconv2D "
        "TransposedConv2d",
        "dense": "Linear InnerProduct connected fully_connected fc LazyLinear FullyConnected dense_layer",
        "max_pool2d": "MaxPooling2D MaxPool MaxPool2d maxpooling max_pooling max_pool",
        "avg_pool2d": "AveragePooling2D AvgPool AvgPool2d average_pool avgpooling AveragePool average_pooling",
        "lp_pool2d": "LPPool2d",
        "global_avg_pool2d": "GlobalAveragePooling2D GlobalAvgPool gap GlobalAveragePool global_pool "
        "global_average_pooling",
        "global_max_pool2d": "GlobalMaxPooling2D GlobalMaxPool GlobalMaxPooling gmp",
        "adaptive_avg_pool2d": "AdaptiveAvgPool2d AdaptiveAveragePooling2D AdaptiveAvgPool",
        "batch_norm": "BatchNormalization BatchNorm2d BatchNorm BatchNorm1d SyncBatchNorm bn LazyBatchNorm2d "
        "batchnormalize",
        "layer_norm": "LayerNormalization LayerNorm ln",
        "group_norm": "GroupNormalization GroupNorm gn",
        "instance_norm": "InstanceNormalization InstanceNorm2d InstanceNorm",
        "local_response_norm": "LRN LocalResponseNormalization LocalResponseNorm lrn2d",
        "upsample2d": "UpSampling2D Upsample upsampling Interp UpsamplingNearest2d UpsamplingBilinear2d",
        "zero_pad2d": "ZeroPadding2D ZeroPad2d ConstantPad2d padding pad",
        "attention": "MultiheadAttention MultiHeadAttention self_attention mhsa",
        "clip": "Clamp Hardtanh clip_by_value",
        "scale_shift": "Scale affine LayerScale",
        "pad2d": "ReflectionPad2d ReplicationPad2d CircularPad2d",
        "weight_norm": "WeightNorm WeightNormalization weight_normalization",
        "crop2d": "Cropping2D crop cropping",
        "pixel_shuffle": "PixelShuffle depth_to_space DepthToSpace",
        "channel_shuffle": "ChannelShuffle ShuffleChannel",
        "flatten": "Flatten flat",
        "reshape": "Reshape view Unflatten reorg_shape",
        "permute": "Permute transpose",
        "spatial_dropout2d": "SpatialDropout2D Dropout2d spatial_dropout",
        "drop_path": "DropPath StochasticDepth stochastic_depth",
        "add": "Add sum EltwiseSum",
        "concat": "Concatenate cat Concat merge_concat",
        "multiply": "Multiply mul EltwiseProd",
        "leaky_relu": "LeakyReLU leaky lrelu",
        "relu6": "ReLU6",
        "hard_swish": "Hardswish hswish",
        "hard_sigmoid": "Hardsigmoid hsigmoid",
        "silu": "Swish SiLU",
        "sigmoid": "logistic",
        "prelu": "PReLU ParametricReLU",
        "softmax": "SoftmaxActivation",
        "slice": "narrow",
    },
    "loss": {
        "softmax_cross_entropy": "categorical_crossentropy sparse_categorical_crossentropy CategoricalCrossentropy "
        "SparseCategoricalCrossentropy CrossEntropyLoss cross_entropy crossentropy SoftmaxWithLoss NLLLoss nll_loss "
        "softmax_loss softmax_cross_entropy_with_logits",
        "binary_cross_entropy": "binary_crossentropy BinaryCrossentropy BCELoss BCEWithLogitsLoss bce bce_with_logits "
        "SigmoidCrossEntropyLoss binary_cross_entropy_with_logits",
        "mean_squared_error": "mse MSELoss mse_loss l2 l2_loss EuclideanLoss MeanSquaredError",
        "mean_absolute_error": "mae L1Loss l1 l1_loss MeanAbsoluteError",
        "dice": "DiceLoss soft_dice dice_loss",
        "huber": "HuberLoss SmoothL1Loss smooth_l1 smooth_l1_loss huber_loss",
    },
    "optimizer": {
        "sgd": "StochasticGradientDescent gradient_descent",
        "adam": "AdamOptimizer",
        "adamw": "AdamWeightDecay",
        "rmsprop": "RMSProp rms_prop",
        "adagrad": "AdaGrad",
        "nesterov": "nag",
        "lamb": "LAMBOptimizer",
    },
    "schedule": {
        "step": "StepLR steplr stepdecay piecewise_step",
        "multistep": "MultiStepLR steps PiecewiseConstantDecay piecewise_constant piecewise",
        "exponential": "ExponentialLR ExponentialDecay exp",
        "cosine": "CosineAnnealingLR CosineDecay cos cosine_annealing CosineAnnealingWarmRestarts CosineDecayRestarts",
        "polynomial": "PolynomialLR PolynomialDecay poly linear",
        "one_cycle": "OneCycleLR onecycle",
        "plateau": "ReduceLROnPlateau reduce_on_plateau",
        "constant": "ConstantLR fixed",
    },
    "source": {
        "image_folder": "ImageFolder image_dataset_from_directory flow_from_directory ImageData folder "
        "directory images",
        "mnist": "MNIST",
        "fashion_mnist": "FashionMNIST",
        "digits": "load_digits",
        "npz": "numpy",
    },
    "transform": {
        "resize": "Resize Resizing",
        "normalize": "Normalize Normalization standardize",
        "scale": "Rescaling ToTensor rescale",
        "pad": "Pad",
    },
    "augmentation": {
        "flip": "RandomHorizontalFlip RandomFlip horizontal_flip fliplr hflip mirror",
        "crop": "RandomCrop",
        "rotate": "RandomRotation rotation degrees rotation_range",
        "shift": "RandomTranslation translate translation",
        "scale": "RandomZoom zoom zoom_range",
        "brightness": "RandomBrightness brightness_range exposure",
        "contrast": "RandomContrast",
        "cutout": "RandomErasing erasing random_erasing",
        "mixup": "MixUp",
        "cutmix": "CutMix",
        "elastic": "ElasticTransform",
    },
    "initializer": {
        "he": "he_normal kaiming kaiming_normal kaiming_normal_ msra HeNormal",
        "glorot": "xavier xavier_normal glorot_normal xavier_normal_ GlorotNormal",
        "lecun": "lecun_normal LecunNormal",
        "normal": "gaussian random_normal RandomNormal normal_",
        "zeros": "zero zeros_",
        "ones": "one ones_",
        "constant": "constant_",
    },
}

# Keys, with their names in other frameworks. A word may stand for several: the one valid at its place is meant.
KEYS: dict[str, str] = {
    "id": "name top layer_name label",
    "type": "class_name kind name class layer op module_type",
    "from": "inputs bottom input inbound_nodes sources source",
    "use": "block module call template",
    "repeat": "repeats n times count number num_repeats num_blocks",
    "with": "args params parameters kwargs arguments",
    "body": "layers main residual",
    "branches": "paths towers",
    "merge": "merge_mode join combine mode",
    "shortcut": "skip identity_shortcut downsample",
    "filters": "out_channels num_output nb_filter num_filters channels output_channels c2 units n_filters",
    "units": "out_features num_output output_dim hidden_units hidden_size features output_size num_units fc_size "
    "filters neurons nodes size",
    "kernel_size": "kernel kernel_shape pool_size size filter_size ksize k window_size pool_kernel_size window",
    "stride": "strides s subsample pool_stride",
    "padding": "pad pads border_mode p",
    "dilation": "dilation_rate dilations d",
    "groups": "group num_groups g",
    "multiplier": "depth_multiplier channel_multiplier",
    "bias": "use_bias bias_term has_bias",
    "activation": "act activation_fn nonlinearity",
    "weight_init": "kernel_initializer weight_filler init weights_initializer depthwise_initializer "
    "gamma_initializer weight_initializer",
    "bias_init": "bias_initializer bias_filler beta_initializer",
    "negative_slope": "alpha slope leakiness leak",
    "rate": "p prob probability dropout dropout_ratio drop_rate drop_prob",
    "epsilon": "eps delta",
    "momentum": "moving_average_fraction",
    "output_size": "size output_shape",
    "scale": "scale_factor factor",
    "factor": "upscale_factor block_size scale",
    "shape": "target_shape dims",
    "order": "dims perm axes",
    "size": "local_size depth_radius n",
    "k": "bias",
    "weight_decay": "wd decay l2 kernel_regularizer weight_regularizer l2_regularization regularization",
    "trainable": "requires_grad",
    "share": "shared tied weight_sharing param_name reuse",
    "when": "if condition only_if enabled",
    "epochs": "max_epochs num_epochs n_epochs nb_epoch epoch",
    "batch_size": "batch train_batch_size bs batchsize",
    "loss": "criterion loss_function loss_fn objective",
    "optimizer": "optim solver_type optimiser",
    "schedule": "scheduler lr_scheduler lr_policy lr_schedule learning_rate_scheduler",
    "accumulate": "accumulate_grad_batches iter_size gradient_accumulation_steps",
    "clip": "gradient_clipping grad_clip clipping",
    "early_stopping": "early_stop EarlyStopping",
    "checkpoint": "checkpoints snapshot ModelCheckpoint",
    "ema": "model_ema exponential_moving_average",
    "swa": "stochastic_weight_averaging swa_model AveragedModel",
    "learning_rate": "lr base_lr lr0 learn_rate eta step_size",
    "beta1": "beta_1 momentum1",
    "beta2": "beta_2 momentum2",
    "memory": "rho alpha rms_decay",
    "gamma": "factor decay_rate lr_decay drop decay",
    "every": "step_size stepsize decay_steps period",
    "minimum": "eta_min min_lr end_learning_rate final_lr",
    "warmup": "warmup_epochs warmup_steps burn_in",
    "milestones": "boundaries stepvalue",
    "power": "exponent",
    "rise": "pct_start",
    "label_smoothing": "smoothing",
    "class_weights": "weight class_weight pos_weight",
    "metric": "monitor watch",
    "minimum_change": "min_delta",
    "root": "path data_dir folder directory dir data_path",
    "source": "dataset name dataset_name",
    "validation": "val valid dev",
    "fraction": "split ratio validation_split val_split",
    "preprocess": "preprocessing transform transforms",
    "augment": "augmentation augmentations data_augmentation",
    "degrees": "angle factor",
    "amount": "factor",
    "pixels": "padding distance",
    "probability": "p prob",
    "input": "input_shape image_shape shape image_size img_size imgsz input_size",
    "layers": "backbone network architecture model net layer",
    "train": "training trainer solver fit train_config",
    "data": "dataset datasets data_config data_param",
    "seed": "random_seed random_state manual_seed",
    "vars": "variables params parameters constants hyperparameters",
    "blocks": "templates modules definitions defs functions",
    "extends": "include base inherits _base_",
    "cnnspec": "version",
    "expect": "expected asserts",
    "require": "requirements requires",
    "sweep": "hyperopt tune tuning hyperparameter_search grid_search",
    "test.accuracy": "accuracy acc test_accuracy test_acc",
    "validation.accuracy": "val_accuracy val_acc validation_accuracy val.accuracy",
    "validation.loss": "val_loss validation_loss",
    "test.loss": "test_loss",
    "train.loss": "loss train_loss",
    "macs": "mac multiply_accumulates",
    "params": "parameters num_params param_count",
}

START = "write init: {from: ...}, which names a run or a file of weights"

# Words without an equivalent, with the advice that is printed, by kind of type or by section of the key.
ADVICE: dict[str, dict[str, str]] = {
    "layer": {
        "chunk": "write {id: x, type: split, parts: 2}; its parts are x.1 and x.2",
        "unbind": "write {id: x, type: split, parts: 2}; its parts are x.1 and x.2",
        "Pooling": "write max_pool2d or avg_pool2d; global_pooling: true is global_avg_pool2d",
        "Activation": "write the function itself, such as - relu, or activation: relu in the layer above",
        "Eltwise": "write type: add or type: multiply with from: [a, b]",
        "route": "write {type: concat, from: [a, b]} with the ids of the layers that are joined",
        "Sequential": "write the list itself: layers are lists, and a list that is used again is a block",
        "ModuleList": "write the list itself: layers are lists, and a list that is used again is a block",
        "Input": "leave it out and write input: [channels, height, width] at the top of the spec",
        "InputLayer": "leave it out and write input: [channels, height, width] at the top of the spec",
        "Data": "leave it out: data: {source: ...} says what is trained on, and input: its shape",
        "Identity": "leave it out: a list without layers, such as a branch [], is the identity",
        "noop": "leave it out: a list without layers, such as a branch [], is the identity",
        "Accuracy": "leave it out: accuracy is always measured where there are classes",
        "Loss": "leave it out and write train: {loss: ...}",
        "yolo": "detection is not in the language: a network ends in one map or vector of scores",
        "Detect": "detection is not in the language: a network ends in one map or vector of scores",
        "C2f": "write it under blocks and say - use: c2f; explain blocks shows how",
        "C3": "write it under blocks and say - use: c3; explain blocks shows how",
        "SPPF": "write it under blocks and say - use: sppf; explain blocks shows how",
        "Bottleneck": "write {type: residual, body: [...]}, under blocks if it is used again",
        "BasicBlock": "write {type: residual, body: [...]}, under blocks if it is used again",
        "SqueezeExcitation": "write - squeeze_excite, a block that needs no definition",
        "SEBlock": "write - squeeze_excite, a block that needs no definition",
        "shortcut": "write {type: add, from: [a, b]} with ids, or {type: residual, body: [...]}",
        "skip": "write {type: add, from: [a, b]} with ids, or {type: residual, body: [...]}",
        "Conv1D": "write {use: conv1d, with: {filters: 8, kernel_size: 3}}; a sequence is a map of one row",
        "MaxPooling1D": "write {use: max_pool1d, with: {kernel_size: 2}}; a sequence is a map of one row",
        "MaxPool1d": "write {use: max_pool1d, with: {kernel_size: 2}}; a sequence is a map of one row",
        "AveragePooling1D": "write {use: avg_pool1d, with: {kernel_size: 2}}; a sequence is a map of one row",
        "AvgPool1d": "write {use: avg_pool1d, with: {kernel_size: 2}}; a sequence is a map of one row",
        "GlobalAveragePooling1D": "write global_avg_pool2d; a sequence is a map of one row",
        "GlobalMaxPooling1D": "write global_max_pool2d; a sequence is a map of one row",
        "PatchEmbed": "write {use: patch_embed, with: {filters: 192, patch_size: 16}}",
        "Lambda": "write a layer of your own: a plugin is one class in a file",
        "LogSoftmax": "leave it out: softmax_cross_entropy reads logits",
        "SoftmaxWithLoss": "leave it out and write train: {loss: softmax_cross_entropy}",
        "ConvBNReLU": "write conv2d with bias: none, batch_norm and relu; as a block if it is used again",
        "Conv2dNormActivation": "write conv2d with bias: none, batch_norm and relu; as a block if it is used again",
        "AlphaDropout": "write dropout, which does not keep the variance as selu wants it",
        "Threshold": "write relu, or a layer of your own as a plugin",
    },
    "layer key": {
        "in_channels": "leave it out: the channels that arrive are known",
        "in_features": "leave it out: the features that arrive are known",
        "input_dim": "leave it out: the features that arrive are known",
        "input_shape": "leave it out and write input: [channels, height, width] at the top of the spec",
        "num_features": "leave it out: the channels that arrive are known",
        "num_channels": "leave it out: the channels that arrive are known",
        "normalized_shape": "leave it out: the shape that arrives is known",
        "c1": "leave it out: the channels that arrive are known",
        "data_format": "leave it out: shapes are channels, height, width",
        "dtype": "leave it out: numbers are float32",
        "device": "leave it out: everything is computed on processors",
        "inplace": "leave it out: the plan decides what lies in whose place",
        "axis": "leave it out: the channels are meant",
        "dim": "leave it out: the channels are meant",
        "affine": "leave it out: scale and shift are always learned; trainable: false keeps them at 1 and 0",
        "center": "leave it out: scale and shift are always learned; trainable: false keeps them at 1 and 0",
        "track_running_stats": "leave it out: running statistics are always kept",
        "dropout": "write - {type: dropout, rate: ...} below the layer",
        "weight_norm": "write {type: weight_norm, layer: {type: ...}} around the layer",
        "batch_normalize": "write - batch_norm below the layer, and bias: none in it",
        "padding_mode": "write padding: reflect for a margin as wide as that of same; for another width write "
        "{type: pad2d, mode: reflect} above it, and padding: valid here",
        "return_indices": "leave it out: nothing reads the places of maxima",
        "kernel_constraint": "leave it out: weights have no constraints; weight_decay keeps them small",
        "activity_regularizer": "leave it out: weight_decay is what keeps weights small",
        "bias_regularizer": "leave it out: biases do not decay",
        "keep_prob": "write rate: 1 - keep_prob, the share that is dropped",
        "frozen": "write trainable: false",
        "freeze": "write trainable: false",
        "lr_mult": "write rate_factor: 0.1; a rate of 0 is trainable: false",
        "align_corners": "leave it out: corners are not aligned",
        "recompute_scale_factor": "leave it out",
    },
    "spec key": {
        "epochs": "write it under train: {epochs: ...}",
        "batch_size": "write it under train: {batch_size: ...}",
        "loss": "write it under train: {loss: ...}",
        "optimizer": "write it under train: {optimizer: ...}",
        "optimiser": "write it under train: {optimizer: ...}",
        "schedule": "write it under train: {schedule: ...}",
        "scheduler": "write it under train: {schedule: ...}",
        "lr": "write it under train: {optimizer: {type: sgd, learning_rate: ...}}",
        "learning_rate": "write it under train: {optimizer: {type: sgd, learning_rate: ...}}",
        "momentum": "write it under train: {optimizer: {type: sgd, momentum: ...}}",
        "weight_decay": "write it under train: {optimizer: {type: sgd, weight_decay: ...}}",
        "metrics": "leave it out: loss and accuracy are always measured; require: {test.accuracy: '>= 0.9'} asks for "
        "one",
        "augment": "write it under data: {augment: [...]}",
        "augmentation": "write it under data: {augment: [...]}",
        "preprocess": "write it under data: {preprocess: [...]}",
        "transforms": "write it under data: {preprocess: [...]}",
        "val": "write it under data: {validation: {fraction: 0.1}}",
        "source": "write it under data: {source: ...}",
        "sampling": "write it under data: {train: {sampling: balanced}}",
        "nc": "leave it out: units of the last dense layer is the number of classes",
        "num_classes": "leave it out: units of the last dense layer is the number of classes",
        "classes": "leave it out: units of the last dense layer is the number of classes",
        "ch": "write input: [channels, height, width]",
        "channels": "write input: [channels, height, width]",
        "head": "write its layers below the others, under layers",
        "neck": "write its layers below the others, under layers",
        "input_features": "write input: [channels, height, width], and layers: the encoder's",
        "output_features": "the last layer is the output; train: {loss: ...} says what is learned",
        "combiner": "write {type: concat, from: [a, b]} among the layers",
        "outputs": "leave it out: the last layer is the output",
        "device": "leave it out: everything is computed on processors; train --threads N says on how many",
        "gpus": "leave it out: everything is computed on processors; train --threads N says on how many",
        "description": "write a comment, or x-description: keys with x- are your own",
        "author": "write a comment, or x-author: keys with x- are your own",
    },
    "train key": {
        **dict.fromkeys(("from", "pretrained", "weights", "load_from", "init_from", "finetune", "fine_tune"), START),
        "resume": "leave it out: train --resume RUN goes on with a run",
        "class_weights": "write it under the loss: loss: {type: softmax_cross_entropy, class_weights: balanced}",
        "lr": "write optimizer: {type: sgd, learning_rate: ...}; --set train.optimizer.learning_rate=0.1 sets it",
        "learning_rate": "write optimizer: {type: sgd, learning_rate: ...}; --set train.optimizer.learning_rate=0.1 "
        "sets it",
        "base_lr": "write optimizer: {type: sgd, learning_rate: ...}",
        "lr0": "write optimizer: {type: sgd, learning_rate: ...}",
        "momentum": "write optimizer: {type: sgd, momentum: ...}",
        "weight_decay": "write optimizer: {type: sgd, weight_decay: ...}",
        "nesterov": "write optimizer: nesterov, or {type: sgd, momentum: 0.9, nesterov: true}",
        "metrics": "leave it out: loss and accuracy are always measured; require: {test.accuracy: '>= 0.9'} asks for "
        "one",
        "patience": "write early_stopping: {patience: ...}",
        "callbacks": "leave it out: early_stopping, schedule and checkpoint say what callbacks do",
        "label_smoothing": "write loss: {type: softmax_cross_entropy, label_smoothing: ...}",
        "class_weight": "write loss: {type: softmax_cross_entropy, class_weights: [...]}",
        "pos_weight": "write loss: {type: binary_cross_entropy, class_weights: [...]}",
        "validation_split": "write data: {validation: {fraction: ...}}",
        "val_split": "write data: {validation: {fraction: ...}}",
        "validation": "write data: {validation: {fraction: ...}}",
        "shuffle": "leave it out: the order is drawn anew in each epoch, by the seed",
        "num_workers": "leave it out: --threads N says how many compute",
        "workers": "leave it out: --threads N says how many compute",
        "device": "leave it out: everything is computed on processors; --threads N says on how many",
        "subdivisions": "write batch_size: batch / subdivisions, and accumulate: subdivisions",
        "amp": "leave it out: numbers are float32",
        "precision": "leave it out: numbers are float32",
        "mixed_precision": "leave it out: numbers are float32",
        "clipnorm": "write clip: {norm: ...}",
        "clipvalue": "write clip: {value: ...}",
        "clip_gradients": "write clip: {norm: ...}",
        "max_iter": "write epochs: ..., or train --max-steps N",
        "max_steps": "write epochs: ..., or train --max-steps N",
        "steps_per_epoch": "leave it out: an epoch is all images once",
        "gamma": "write schedule: {type: exponential, gamma: ...}",
        "stepsize": "write schedule: {type: step, every: ...}",
        "warmup_epochs": "write schedule: {type: cosine, warmup: ...}",
        "cos_lr": "write schedule: cosine",
        "seed": "write seed: ... at the top of the spec",
        "verbose": "leave it out: train --quiet or --json says how much is printed",
        "save_period": "write checkpoint: {every: 5 epochs}",
        "test_interval": "leave it out: every epoch is scored",
    },
    "data key": {
        "sampling": "write it under train: {sampling: balanced}",
        "sampler": "write train: {sampling: balanced}",
        "batch_size": "write it under train: {batch_size: ...}",
        "shuffle": "leave it out: the order is drawn anew in each epoch, by the seed",
        "num_workers": "leave it out: a thread beside the computing reads",
        "validation_split": "write validation: {fraction: ...}",
        "val_split": "write validation: {fraction: ...}",
        "nc": "leave it out: units of the last dense layer is the number of classes",
        "num_classes": "leave it out: units of the last dense layer is the number of classes",
        "names": "write source: {type: image_folder, classes: [...]}",
        "image_size": "write preprocess: [{type: resize, size: [height, width]}]",
        "img_size": "write preprocess: [{type: resize, size: [height, width]}]",
        "mean": "write preprocess: [{type: normalize, mean: ..., std: ...}]",
        "normalize": "write preprocess: [{type: normalize, mean: ..., std: ...}]",
        "download": "leave it out: train --download fetches the data",
    },
    "optimizer key": {
        "betas": "write beta1: ... and beta2: ...",
        "momentum": "write beta1: ..., or {type: sgd, momentum: ...}",
        "amsgrad": "leave it out: Adam is the published one",
        "clipnorm": "write train: {clip: {norm: ...}}",
        "dampening": "leave it out: momentum is not dampened",
        "maximize": "leave it out: the loss is minimised",
        "schedule": "write train: {schedule: ...} beside the optimizer",
        "params": "leave it out: all parameters are meant; trainable: false in a layer leaves it out",
    },
    "schedule key": {
        "T_max": "leave it out: the schedule ends with the last epoch",
        "max_lr": "leave it out: the optimizer's learning_rate is the highest",
        "total_steps": "leave it out: the schedule ends with the last epoch",
        "decay_steps": "leave it out: the schedule ends with the last epoch",
        "last_epoch": "leave it out: train --resume RUN knows where it was",
    },
    "loss key": {
        "class_weights": "leave it out: this loss compares nothing with classes",
        "from_logits": "leave it out: losses read logits",
        "reduction": "leave it out: the loss is the mean over the batch",
    },
    "expect key": {
        "flops": "write macs: a multiply-accumulate is two FLOPs",
        "memory": "write train_memory or infer_memory",
    },
    "optimizer": {
        "Nadam": "write nesterov, or adam",
        "Adadelta": "write rmsprop or adagrad",
        "AdaMax": "write adam",
        "lookahead": "write it beside the optimizer: train: {optimizer: adam, lookahead: {every: 5, share: 0.5}}",
    },
    "augmentation": {"ColorJitter": "write brightness and contrast", "RandomAffine": "write rotate, shift and scale"},
    "initializer": {
        "he_uniform": "write {type: he, distribution: uniform}",
        "kaiming_uniform": "write {type: he, distribution: uniform}",
        "glorot_uniform": "write {type: glorot, distribution: uniform}",
        "xavier_uniform": "write {type: glorot, distribution: uniform}",
        "lecun_uniform": "write {type: lecun, distribution: uniform}",
    },
}

# Values, by key: what another framework writes, and the text for it in a spec.
VALUES: dict[str, dict[str, str]] = {
    "padding": {"SAME": "same", "VALID": "valid", "zeros": "0", "same_upper": "same"},
    "bias": {"false": "none", "true": "channel", "no": "none", "yes": "channel"},
    "merge": {
        "cat": "concat",
        "concatenate": "concat",
        "sum": "add",
        "mul": "multiply",
        "product": "multiply",
        "max": "maximum",
        "min": "minimum",
    },
    "shortcut": {"true": "auto", "false": "none", "conv": "projection", "1x1": "projection", "same": "if_same"},
    "mode": {"linear": "bilinear", "nearest_neighbor": "nearest"},
    "activation": {"linear": "null", "identity": "null", "none": "null", "leaky": "leaky_relu"},
    "*": {"yes": "true", "no": "false", "on": "true", "off": "false", "None": "null"},
}


@lru_cache(maxsize=4096)
def folded(word: str) -> str:
    """Return a word in the form used for comparison: without module, case, underscores and dashes."""
    return _RULE.sub("", _MODULE.sub("", word)).lower()


@cache
def _meanings() -> Mapping[str, tuple[str, ...]]:
    meanings: dict[str, tuple[str, ...]] = {}
    tables: list[Mapping[str, str]] = [*TYPES.values(), KEYS]
    for table in tables:
        for name, words in table.items():
            for word in (name, *words.split()):
                meanings[folded(word)] = (*meanings.get(folded(word), ()), name)
    return meanings


def meant(word: str, names: Collection[str]) -> str | None:
    """Return the one of these names that is the equivalent, or another spelling, of a word; None if there is none."""
    key = folded(word)
    known = next((name for name in _meanings().get(key, ()) if name in names), None)
    return known or next((name for name in names if folded(name) == key), None)


@cache
def _advice() -> Mapping[str, Mapping[str, str]]:
    return {place: {folded(word): text for word, text in table.items()} for place, table in ADVICE.items()}


def advice(place: str, word: str) -> str | None:
    """Return what to write instead of a word that has no direct equivalent in a place."""
    return _advice().get(place, {}).get(folded(word))


def value(key: str, written: object) -> str | None:
    """Return the text that a spec uses for a value of another framework; None if none is known."""
    if isinstance(written, bool):
        written = str(written).lower()
    if not isinstance(written, str):
        return None
    for place in (key, "*"):
        for word, text in VALUES.get(place, {}).items():
            if folded(word) == folded(written):
                return text
    return None


def elsewhere(type_name: str, tables: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a type in other frameworks; `tables` are the kinds of types to look at, or `key`."""
    words = [table.get(type_name, "") for name in tables for table in (KEYS if name == "key" else TYPES.get(name, {}),)]
    return tuple(word for line in words for word in line.split())
