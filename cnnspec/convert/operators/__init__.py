"""Translators of ONNX operators to layers: one function for each operator, one file for each subject."""

from collections.abc import Mapping

from cnnspec.convert.operators import (
    affine,
    elementwise,
    merging,
    normalisation,
    products,
    rearranging,
    reducing,
    windows,
)
from cnnspec.convert.operators.translator import Translator

TRANSLATORS: Mapping[str, Translator] = {
    **windows.TRANSLATORS,
    **elementwise.TRANSLATORS,
    **affine.TRANSLATORS,
    **merging.TRANSLATORS,
    **normalisation.TRANSLATORS,
    **products.TRANSLATORS,
    **rearranging.TRANSLATORS,
    **reducing.TRANSLATORS,
}
