"""What operators of ONNX are in a spec: one function an operator, one file a subject."""

from collections.abc import Mapping

from cnnspec.convert.operators import affine, elementwise, merging, normalisation, rearranging, reducing, windows
from cnnspec.convert.operators.translator import Translator

TRANSLATORS: Mapping[str, Translator] = {
    **windows.TRANSLATORS,
    **elementwise.TRANSLATORS,
    **affine.TRANSLATORS,
    **merging.TRANSLATORS,
    **normalisation.TRANSLATORS,
    **rearranging.TRANSLATORS,
    **reducing.TRANSLATORS,
}
