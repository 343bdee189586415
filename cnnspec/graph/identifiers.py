"""Names of layers as identifiers of Python, such as attributes of a PyTorch module."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable

from cnnspec.graph.node import Graph

# Names that every PyTorch module has, or the source that is written of one.
OF_A_MODULE = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules
    mtia named_buffers named_children named_modules named_parameters parameters prepare register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
    """.split()  # noqa: SIM905  (a table of names)
)


def identifiers(names: Iterable[str], reserved: Collection[str] = ()) -> dict[str, str]:
    """Map each name to a Python identifier; all of them differ, and none is a keyword or `reserved`.

    A name that is an identifier keeps its spelling, even if other names are converted to the same one.
    """
    taken, result = {*keyword.kwlist, *reserved}, dict[str, str]()
    for name in sorted(dict.fromkeys(names), key=lambda name: _identifier(name) != name):
        identifier = _identifier(name)
        while identifier in taken:
            identifier += "_"
        taken.add(identifier)
        result[name] = identifier
    return result


def module_names(graph: Graph, *others: str) -> dict[str, str]:
    """Map the names of layers, and `others`, to their names as attributes of a PyTorch module."""
    return identifiers([*(node.name for node in graph.nodes), *others], OF_A_MODULE)


def _identifier(name: str) -> str:
    identifier = re.sub(r"\W", "_", name)
    return f"_{identifier}" if identifier[0].isdigit() else identifier
