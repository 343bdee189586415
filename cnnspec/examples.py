"""The example on the page of each type and section: how a spec writes it, and where."""

from __future__ import annotations

from cnnspec import registry
from cnnspec.fields import Declaration, Json, options

PLACES = {  # where a spec writes each kind
    "layer": "- {}",
    "initializer": "- {{type: dense, units: 10, weight_init: {}}}",
    "loss": "train: {{epochs: 5, loss: {}}}",
    "optimizer": "train: {{epochs: 5, optimizer: {}}}",
    "schedule": "train: {{epochs: 5, schedule: {}}}",
    "source": "data: {{source: {}}}",
    "transform": "data: {{source: digits, preprocess: [{}]}}",
    "augmentation": "data: {{source: digits, augment: [{}]}}",
    "section": "{}",
}
_PAIRS = ("add", "subtract", "multiply", "maximum", "minimum", "concat", "matmul")
SHOWN = {  # examples for types whose shortest form would fit no network, or show nothing
    **{f"layer.{name}": f"- {{type: {name}, from: [a, b]}}" for name in _PAIRS},
    "initializer.dirac": "- {type: conv2d, filters: 16, kernel_size: 3, weight_init: dirac}",
    "initializer.from_data": "- {type: conv2d, filters: 16, kernel_size: 3, weight_init: from_data}",
    "layer.attention": "- {type: attention, heads: 4}",
    "layer.channel_shuffle": "- {type: channel_shuffle, groups: 4}",
    "layer.clip": "- {type: clip, min: 0, max: 6}",
    "layer.group_norm": "- {type: group_norm, groups: 4}",
    "layer.layer_norm": "- {type: layer_norm, over: channels}",
    "layer.max_pool2d": "- {type: max_pool2d, kernel_size: 2}",
    "layer.permute": "- {type: permute, order: [0, 2, 1]}",
    "layer.pixel_shuffle": "- {type: pixel_shuffle, factor: 2}",
    "layer.reparameterize": "- {type: reparameterize, from: [mean, log_variance]}",
    "layer.reshape": "- {type: reshape, shape: [1, 28, 28]}",
    "layer.slice": "- {type: slice, channels: {start: 0, stop: 4}}",
    "source.csv": "data: {source: {type: csv, shape: [1, 28, 28]}}",
    "source.parquet": "data: {source: {type: parquet, shape: [1, 28, 28]}}",
    "transform.pad": "data: {source: digits, preprocess: [{type: pad, padding: 2}]}",
    "transform.resize": "data: {source: digits, preprocess: [{type: resize, size: [28, 28]}]}",
    "section.checkpoint": "train: {epochs: 50, checkpoint: {every: 5 epochs, keep: 3}}",
    "section.clip": "train: {epochs: 50, clip: {norm: 1.0}}",
    "section.early_stopping": "train: {epochs: 50, early_stopping: {metric: validation.loss, patience: 5}}",
    "section.halving": "sweep: {values: {train.batch_size: [32, 64]}, halving: {first: 1, factor: 3}}",
    "section.init": "train: {epochs: 5, init: {from: runs/base}}",
    "section.lookahead": "train: {epochs: 50, lookahead: {every: 5, share: 0.5}}",
    "section.rate_factors": "train: {epochs: 50, rate_factors: {bias: 2}}",
    "section.swa": "train: {epochs: 50, swa: {after: 40}}",
    "section.tta": "data: {source: digits, tta: {shifts: 1}}",
    "section.validation": "data: {source: digits, validation: {fraction: 0.1}}",
}


def example(kind: str, title: str, cls: type[Declaration]) -> str:
    """Return a type or section as a spec writes it: a bare name, or its required fields with valid values."""
    shown = SHOWN.get(f"{kind}.{title}")
    if shown is not None:
        return shown
    required = [f"{option.name}: {_value(option.schema)}" for option in options(cls) if option.required]
    written = f"{{type: {title}, {', '.join(required)}}}" if required else title
    if kind == "section":
        written = f"{title}: {{{', '.join(required)}}}"
    return PLACES[kind].format(written)


def _value(schema: Json) -> str:
    if "examples" in schema:
        return str(schema["examples"][0])
    if "$ref" in schema:
        return next(iter(registry.table(schema["$ref"].rpartition("/")[2])))
    if "anyOf" in schema:
        return _value(schema["anyOf"][0])
    if "enum" in schema:
        return str(schema["enum"][0])
    if schema["type"] == "array":
        return f"[{', '.join([_value(schema['items'])] * schema.get('minItems', 1))}]"
    if schema["type"] == "integer":
        return str(max(schema.get("minimum", 0), 3))
    return {"number": "0.5", "boolean": "true", "string": "name", "object": "{}"}[schema["type"]]
