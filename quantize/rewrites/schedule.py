"""The order of nodes decides what lives at the same time, and so how much memory the device needs."""

from __future__ import annotations

import onnx_ir as ir


def slice_late(model: ir.Model) -> None:
    """Each Slice right before the node that reads it first: it is a copy, while what it copies from lives anyway."""
    position = {node: index for index, node in enumerate(model.graph)}
    for node in list(model.graph):
        readers = node.outputs[0].consumers()
        if node.op_type == "Slice" and readers:
            model.graph.remove(node)
            model.graph.insert_before(min(readers, key=lambda reader: position[reader]), node)
