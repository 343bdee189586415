"""Sources, transforms, augmentations and the order of batches."""

from cnnspec.data import (
    augmentation,
    cifar,
    digits,
    folder,
    idx,
    mixing,
    mnist,
    npz,
    parquet,
    picture_masks,
    picture_table,
    svhn,
    synthetic,
    tables,
    transforms,
    warp,
)
from cnnspec.data.inputs import Inputs
from cnnspec.data.open import Data, Dataset, open_data, root_of
from cnnspec.data.order import Order
from cnnspec.data.pipeline import Pipeline
from cnnspec.data.published import Published, cache_folder
from cnnspec.data.settings import DataSettings
from cnnspec.data.source import Images, Source
from cnnspec.data.store import Watch
from cnnspec.data.transforms import Transform, affine

__all__ = [
    "Data",
    "DataSettings",
    "Dataset",
    "Images",
    "Inputs",
    "Order",
    "Pipeline",
    "Published",
    "Source",
    "Transform",
    "Watch",
    "affine",
    "augmentation",
    "cache_folder",
    "cifar",
    "digits",
    "folder",
    "idx",
    "mixing",
    "mnist",
    "npz",
    "open_data",
    "parquet",
    "picture_masks",
    "picture_table",
    "root_of",
    "svhn",
    "synthetic",
    "tables",
    "transforms",
    "warp",
]
