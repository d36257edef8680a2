"""Which layers to quantize in a network that nobody described: a rule that follows the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.data_flow import DataFlow, Edge
from dynq_basicsr.quantization.layers import QUANTIZED_CLASSES

HEAD, BODY, END, ATTENTION, FLOAT = 'head', 'body', 'end', 'attention', 'float'
# Behind more positions than this, relative to the trunk, lies an upsampler; padding to whole windows adds fewer.
_ENLARGED = 2
# For the log.
RULE = 'generic rule: what lies between head and upsampler, outside of attention'


@dataclass(frozen=True)
class Role:
    """What a layer does in its network.

    Attributes:
        kind: ``HEAD``, ``BODY``, ``END``, ``ATTENTION`` or ``FLOAT``.
        why: What tells so, in words; empty for the body.
    """

    kind: str
    why: str = ''


def find_roles(net: nn.Module, flow: DataFlow) -> dict[str, Role]:
    """Tell the role of every convolution and linear layer.

    The rule, the first line that applies:

    - ``FLOAT``: layers that no quantized class stands for, that do not run, and convolutions from images to images,
      1x1 (mean shifts) or channel by channel.
    - ``ATTENTION``: layers all of whose paths to the result end in a gate: a factor that comes from a sigmoid, softmax
      or tanh, that is computed from what it multiplies, one of two factors that both follow the image, or what picks or
      places other values. Layers that give queries, keys or values; and those that read nothing but what these, or
      products of attention, give: convolutions of values, the projection behind.
    - ``FLOAT``: layers of pooled features, one position an image.
    - ``HEAD``: the first convolution that runs.
    - ``END``: other layers that read nothing but the image; layers that work at more than twice as many positions as
      the head gives (the upsampler and what lies behind it); of the others the last one that runs, which feeds the
      upsampler or is the tail.
    - ``BODY``: all others, convolutions and linear layers, at the head's resolution, the trunk's, or below, as within a
      U-Net. So networks that begin with a pixel unshuffle or a strided convolution have a body, too.

    Where nothing is left, as in a network whose trunk itself runs through products, gates count as paths.

    Args:
        net: The float network.
        flow: One forward of it, ``data_flow.trace``.
    """
    roles = _roles(net, flow, [Edge.FLOW])
    if not any(role.kind == BODY for role in roles.values()):
        roles = _roles(net, flow, [Edge.FLOW, Edge.GATE])
    return roles


def body_layers(net: nn.Module, roles: Mapping[str, Role]) -> list[str]:
    """Names of the body's layers, in module order.

    Raises:
        DynqError: If there is none.
    """
    names = layers_of(roles, BODY)
    if not names:
        raise DynqError(
            f'quantization: no rule fits {type(net).__name__}, none of whose {len(roles)} convolutions and linear '
            'layers lies between head and upsampler; name its layers in network_g.quantization.layers.'
        )
    return names


def layers_of(roles: Mapping[str, Role], *kinds: str) -> list[str]:
    """Names of the layers that have one of these roles, in module order."""
    return [name for name, role in roles.items() if role.kind in kinds]


def first_convolution(net: nn.Module, flow: DataFlow) -> str:
    """Name of the convolution that runs first and gives features to other layers; the first one where none does.

    Convolutions from images to images do not count.

    Raises:
        DynqError: If none runs.
    """
    head = _find_head(net, flow)
    if not head:
        raise DynqError(f'network_g.backbone: {type(net).__name__} has no convolution; choose another.')
    return head


def mean_shifts(net: nn.Module, flow: DataFlow) -> list[str]:
    """Names of the convolutions from images to images that run, in the order of execution."""
    modules = dict(net.named_modules())
    return [name for name in flow.runs() if _shifts(modules[name], flow)]


def batch_norms_behind(net: nn.Module, flow: DataFlow, names: Iterable[str]) -> dict[str, str]:
    """Which convolutions have a batch normalization as the only reader of their result; each of the two runs once.

    Args:
        net: The float network.
        flow: One forward of it.
        names: Of the layers in question.

    Returns:
        Name of the convolution -> that of its batch normalization, which has running statistics.
    """
    modules, runs, readers = dict(net.named_modules()), flow.runs(), flow.readers()
    found = {}
    for name in names:
        steps = runs.get(name, [])
        behind = readers.get(steps[0], []) if len(steps) == 1 and steps[0] not in flow.results else []
        norm = flow.steps[behind[0]].layer if len(behind) == 1 else ''
        if not isinstance(modules[name], nn.Conv2d) or type(modules.get(norm)) is not nn.BatchNorm2d:
            continue
        if len(runs[norm]) == 1 and modules[norm].running_var is not None:
            found[name] = norm
    return found


def _find_head(net: nn.Module, flow: DataFlow) -> str:
    modules = dict(net.named_modules())
    layers = {name: set(steps) for name, steps in flow.runs().items() if not _shifts(modules[name], flow)}
    found = [name for name in layers if isinstance(modules[name], nn.Conv2d)]
    for name in found:
        if flow.behind(layers[name], Edge) & set().union(*layers.values()) - layers[name]:
            return name
    return found[0] if found else ''


def _roles(net: nn.Module, flow: DataFlow, paths: list[Edge]) -> dict[str, Role]:
    modules = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)}
    runs = {name: flow.runs().get(name, []) for name in modules}
    used = flow.before(flow.results, Edge)
    open_paths = flow.before(flow.results, paths)
    factors = flow.attention_inputs()
    features = flow.behind([0], [Edge.FLOW, Edge.GATE], around=factors)

    def outside(name: str, module: nn.Module) -> Role | None:
        """The role of a layer that is no part of head, trunk or ends."""
        if _shifts(module, flow):
            return Role(FLOAT, 'maps images to images')
        if type(module) not in QUANTIZED_CLASSES:
            return Role(FLOAT, f'no quantized layer stands for a {type(module).__name__}')
        if not isinstance(module.weight, nn.Parameter):
            return Role(FLOAT, 'its weight is computed')
        if used.isdisjoint(runs[name]):
            return Role(FLOAT, 'the image does not run through it as a module')
        if open_paths.isdisjoint(runs[name]):
            return Role(ATTENTION, 'feeds nothing but gates')
        if not factors.isdisjoint(runs[name]):
            return Role(ATTENTION, 'gives queries, keys or values')
        if features.isdisjoint(runs[name]):
            return Role(ATTENTION, 'reads nothing but what attention gives')
        if all(_positions(module, flow.steps[index].read) <= flow.steps[0].shape[0] for index in runs[name]):
            return Role(FLOAT, 'works on pooled features')
        return None

    roles = {name: outside(name, module) for name, module in modules.items()}
    head = _find_head(net, flow)
    if not head:
        return {name: role or Role(FLOAT, 'no convolution runs before it') for name, role in roles.items()}
    # a head that is no layer to quantize still tells the trunk's resolution
    trunk = max(_positions(modules[head], flow.steps[index].shape) for index in runs[head])
    own = [index for name, steps in runs.items() if not _shifts(modules[name], flow) for index in steps]
    behind_layers = flow.behind(own, Edge)
    for name, role in roles.items():
        if role is not None:
            continue
        steps = [flow.steps[index] for index in runs[name]]
        largest = max(_positions(modules[name], shape) for one in steps for shape in (one.read, one.shape))
        if name == head:
            roles[name] = Role(HEAD, 'the first convolution')
        elif behind_layers.isdisjoint(runs[name]):
            roles[name] = Role(END, 'reads the image alone')
        elif largest > _ENLARGED * trunk:
            roles[name] = Role(END, 'works behind the upsampler')
        else:
            roles[name] = Role(BODY)
    body = [name for name, role in roles.items() if role.kind == BODY]
    if body:
        last = max(body, key=lambda name: runs[name][-1])
        roles[last] = Role(END, 'the last one before the upsampler, or the tail')
    return roles


def _positions(module: nn.Module, shape: tuple[int, ...]) -> int:
    """At how many places a tensor has features: pixels, or tokens, of all windows and images."""
    return math.prod(shape) // (shape[-1] if isinstance(module, nn.Linear) else shape[1])


def _shifts(module: nn.Module, flow: DataFlow) -> bool:
    """Whether it is a convolution from images to images, 1x1 or channel by channel."""
    channels = flow.steps[0].shape[1]
    if not isinstance(module, nn.Conv2d) or not module.in_channels == module.out_channels == channels:
        return False
    return module.kernel_size == (1, 1) or module.groups == channels > 1
