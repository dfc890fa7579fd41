"""What is done to a graph of a step before inductor writes its loops, and what it is told.

A loop over a tensor computes again, for every few elements, what it takes from smaller tensors: the
powers in Adam's bias corrections, say, which then cost more than all else. And each of an update's
derivatives divides by the same root, where vectors of divisions are what a processor is slowest at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

aten = torch.ops.aten


def options(backend: str | Callable[..., Any]) -> dict[str, Any] | None:
    """The options of `torch.compile` for a step's graph."""
    from torch._dynamo import types  # takes a second and a half, which `import gdtuo` is spared

    # What calls a graph knows which it is; only its tensors are looked at again at each call.
    # torch 2.6 can't be told, and looks at every rule.
    told = {"guard_filter_fn": _of_tensors} if hasattr(types, "GuardFilterEntry") else {}
    if backend != "inductor":
        return told or None
    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Passes(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            divide_once(graph)
            compute_scalars_once(graph)
            graph.lint()

        def uuid(self) -> Any:  # compiled graphs that are kept on the disk are told apart by it
            return "gdtuo.passes 3"

    # A vector is written by one loop, not from a tensor for each of its parts.
    return {"post_grad_custom_post_pass": Passes(), "force_pointwise_cat": True, **told}


def _of_tensors(guards: Sequence[Any]) -> list[bool]:
    """Those to keep: on arguments of the function, and on torch's global state."""
    return [re.match(r"$|(L\[')?(cells|groups)\b", guard.name) is not None for guard in guards]


def divide_once(graph: Graph) -> None:
    """x / d is x (1 / d) where several are divided by d, or d is one number for many elements."""
    quotients: dict[Node, list[Node]] = defaultdict(list)
    for node in graph.find_nodes(op="call_function", target=aten.div.Tensor):
        if isinstance(node.args[1], Node) and _is_large(node):
            quotients[node.args[1]].append(node)
    for divisor, nodes in quotients.items():
        if len(nodes) < 2 and not _is_repeated(divisor, nodes[0]):
            continue
        with graph.inserting_after(divisor):
            inverse = graph.call_function(aten.reciprocal.default, (divisor,))
        inverse.meta = dict(divisor.meta)
        for node in nodes:
            with graph.inserting_before(node):
                product = graph.call_function(aten.mul.Tensor, (node.args[0], inverse))
            product.meta = dict(node.meta)
            node.replace_all_uses_with(product)
            graph.erase_node(node)


def compute_scalars_once(graph: Graph) -> None:
    """Make a tensor in memory of what loops over larger tensors read: numbers, and in an ensemble
    columns of a number for each member."""
    for node in list(graph.nodes):
        users = [user for user in node.users if _is_repeated(node, user)]
        # What is no arithmetic, such as an entry of a vector, is only read; and it is a view, which
        # has a place of its own in a memory that is not its own.
        if not users or torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            continue
        value = node.meta["val"]
        with graph.inserting_after(node):
            # As strides are those of memory, what is viewed by them has to be there.
            kept = graph.call_function(aten.as_strided.default, (node, [], [1] * value.dim()))
        kept.meta = dict(node.meta)
        with graph.inserting_before(kept):
            kept.args = (node, [_size(graph, node, i) for i in range(value.dim())], kept.args[2])
        for user in users:
            user.replace_input_with(node, kept)


def _size(graph: Graph, node: Node, i: int) -> int | Node:
    size = node.meta["val"].shape[i]
    if isinstance(size, int):
        return size
    result = graph.call_function(aten.sym_size.int, (node, i))
    result.meta = {"val": size}
    return result


def _is_large(node: Node) -> bool:
    """Whether it has the size of a parameter, which varies; that of a tower's vectors does not."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and not isinstance(value.numel(), int)


def _is_repeated(node: Node, user: Node) -> bool:
    """Whether each entry of ``node``, at most a column, is read for many elements of ``user``."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not _is_large(user):
        return False
    columns = [size for size in value.shape[1:] if not isinstance(size, int) or size != 1]
    return not columns and value.dim() <= user.meta["val"].dim() and not _same(value, user)


def _same(value: Tensor, user: Node) -> bool:
    return str(value.shape) == str(user.meta["val"].shape)
