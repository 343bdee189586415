"""From a Spec to nodes in order, with names, shapes, parameters and costs."""
