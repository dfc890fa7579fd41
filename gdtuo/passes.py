"""What is done to a graph of a step before inductor writes its loops.

A loop over a tensor computes again, for every few elements, what it takes from smaller tensors: the
powers in Adam's bias corrections, say, which then cost more than all else. And each of an update's
derivatives divides by the same root, where vectors of divisions are what a processor is slowest at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

aten = torch.ops.aten


def options(backend: str | Callable[..., Any]) -> dict[str, Any] | None:
    """The options of `torch.compile` for a step's graph."""
    if backend != "inductor":
        return None
    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Passes(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            divide_once(graph)
            compute_scalars_once(graph)
            graph.lint()

        def uuid(self) -> Any:  # compiled graphs that are kept on the disk are told apart by it
            return "gdtuo.passes 1"

    return {"post_grad_custom_post_pass": Passes()}


def divide_once(graph: Graph) -> None:
    """x / d is x (1 / d) where several are divided by d, or d is one number for many elements."""
    quotients: dict[Node, list[Node]] = defaultdict(list)
    for node in graph.find_nodes(op="call_function", target=aten.div.Tensor):
        if isinstance(node.args[1], Node):
            quotients[node.args[1]].append(node)
    for divisor, nodes in quotients.items():
        larger = [node for node in nodes if _is_large(node)]
        chosen = larger if len(larger) > 1 or not _is_large(divisor) else []
        if not chosen:
            continue
        with graph.inserting_after(divisor):
            inverse = graph.call_function(aten.reciprocal.default, (divisor,))
        inverse.meta = dict(divisor.meta)
        for node in chosen:
            with graph.inserting_before(node):
                product = graph.call_function(aten.mul.Tensor, (node.args[0], inverse))
            product.meta = dict(node.meta)
            node.replace_all_uses_with(product)
            graph.erase_node(node)


def compute_scalars_once(graph: Graph) -> None:
    """Make a tensor in memory of each number that loops over tensors read."""
    for node in list(graph.nodes):
        larger = [user for user in node.users if _is_large(user)]
        if node.op == "call_function" and _is_scalar(node) and larger:
            with graph.inserting_after(node):
                # As strides are those of memory, what is viewed by them has to be there.
                kept = graph.call_function(aten.as_strided.default, (node, [], []))
            kept.meta = dict(node.meta)
            for user in larger:
                user.replace_input_with(node, kept)


def _is_scalar(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dim() == 0


def _is_large(node: Node) -> bool:
    """Whether it has the size of a parameter, which varies; that of a tower's vectors does not."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and not isinstance(value.numel(), int)
