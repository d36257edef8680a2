"""Rewrites of the base graph that keep its numbers and let integers reach further."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from dynq_basicsr.export.base_graph import DOMAIN
from dynq_basicsr.export.graph import attribute, makers_of, users

_POINTWISE = ('Relu', 'LeakyRelu', 'PRelu')


@dataclass
class Base:
    """A base graph that is ready for its layers.

    Attributes:
        model: Its inputs and outputs.
        nodes: In topological order.
        constants: By name.
        shuffled: Layer -> block size of the pixel shuffle that wants its output channels in ``shuffled_order``.
    """

    model: onnx.ModelProto
    nodes: list[NodeProto]
    constants: dict[str, np.ndarray]
    shuffled: dict[str, int] = field(default_factory=dict)


def simplify(model: onnx.ModelProto) -> Base:
    """Move pixel shuffles behind pointwise operators, and let their channels come last.

    Args:
        model: See ``trace_network``.
    """
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    base = Base(model, _plain_nodes(model, constants), constants)
    _sink_shuffles(base)
    _reorder_shuffled(base)
    return base


def _plain_nodes(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> list[NodeProto]:
    """The nodes, those that only name a constant turned into one."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == 'Constant':
            constants[node.output[0]] = numpy_helper.to_array(attribute(node, 'value'))
        elif node.op_type == 'GlobalAveragePool':  # which ONNX Runtime does not know of float64
            axes = f'{node.output[0]}_axes'
            constants[axes] = np.array([2, 3])
            nodes.append(helper.make_node('ReduceMean', [node.input[0], axes], node.output, name=node.name))
        elif node.op_type == 'Identity' and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        else:
            nodes.append(node)
    return nodes


def _sink_shuffles(base: Base) -> None:
    """Swap a pixel shuffle with the pointwise operator behind it, until it stands before something else."""
    moved = True
    while moved:
        moved, used, makers = False, users(base.nodes), makers_of(base.nodes)
        for node in base.nodes:
            shuffle = makers.get(node.input[0]) if node.op_type in _POINTWISE else None
            if shuffle is None or shuffle.op_type != 'DepthToSpace' or used[shuffle.output[0]] > 1:
                continue
            if node.op_type == 'PRelu':
                slopes = base.constants[node.input[1]]
                if slopes.size > 1:
                    name = f'{node.input[1]}_before_{shuffle.output[0]}'
                    base.constants[name] = np.repeat(slopes, attribute(shuffle, 'blocksize') ** 2, axis=0)
                    node.input[1] = name
            flat = f'{node.output[0]}_flat'
            node.input[0], shuffle.input[0] = shuffle.input[0], flat
            node.output[0], shuffle.output[0] = flat, node.output[0]
            first, second = base.nodes.index(shuffle), base.nodes.index(node)
            base.nodes[first], base.nodes[second] = node, shuffle
            moved = True
            break


def _reorder_shuffled(base: Base) -> None:
    """Let a layer before a pixel shuffle give its channels in the order (row, column, channel).

    The shuffle then moves whole pixels: ``DepthToSpace`` of mode DCR instead of CRD.
    """
    used, makers = users(base.nodes), makers_of(base.nodes)
    runs = Counter(attribute(node, 'name') for node in base.nodes if node.domain == DOMAIN)
    for shuffle in base.nodes:
        if shuffle.op_type != 'DepthToSpace' or attribute(shuffle, 'mode') != 'CRD':
            continue
        between, maker = [], makers.get(shuffle.input[0])
        while maker is not None and maker.op_type in _POINTWISE and used[maker.output[0]] == 1:
            between.append(maker)
            maker = makers.get(maker.input[0])
        if maker is None or maker.domain != DOMAIN or used[maker.output[0]] > 1:
            continue
        if runs[attribute(maker, 'name')] > 1:  # the order would be that of all its results
            continue
        block = attribute(shuffle, 'blocksize')
        base.shuffled[attribute(maker, 'name')] = block
        for node in between:
            if node.op_type == 'PRelu' and base.constants[node.input[1]].size > 1:
                name = f'{node.input[1]}_reordered'
                slopes = base.constants[node.input[1]]
                base.constants[name] = slopes[shuffled_order(len(slopes), block)]
                node.input[1] = name
        del shuffle.attribute[:]
        shuffle.attribute.extend([helper.make_attribute('blocksize', block), helper.make_attribute('mode', 'DCR')])


def shuffled_order(channels: int, block: int) -> np.ndarray:
    """Of channels (channel, row, column), the order in which they are (row, column, channel): (channels,) indices."""
    return np.arange(channels).reshape(-1, block**2).T.flatten()
