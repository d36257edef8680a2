"""What became of every layer of a network, as a table."""

from __future__ import annotations

from torch import nn

from dynq_basicsr.archs.layer_plan import LayerPlan
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.quantization.generic_rule import BODY, END, FLOAT, Role
from dynq_basicsr.quantization.layers import QUANTIZED_CLASSES

_HEADINGS = ('layer', 'role', 'weight', 'activation', 'runs')


def layer_table(net: nn.Module, plan: LayerPlan, options: QuantizationOptions) -> str:
    """What becomes of every convolution and linear layer, and why.

    Args:
        net: The network.
        plan: What was planned for it.
        options: The ``quantization`` section.

    Returns:
        One line a layer, in module order, below a line of headings: name, role, bits of weight and activation (their
        range where the policy decides), and how often it runs in a forward.
    """
    base, ends = options, options.ends
    rows = [_HEADINGS]
    for name, module in net.named_modules():
        if not isinstance(module, (nn.ConvTranspose2d, *QUANTIZED_CLASSES)):
            continue
        role, bits = _role(name, plan), ('float', 'float')
        if name in plan.adaptive:
            low, high = base.activation.bits_range
            bits = f'{base.weight.bits}', f'{base.activation.bits} ({low} to {high})'
        elif name in plan.static:
            bits = f'{base.weight.bits}', f'{base.activation.bits}'
        elif name in plan.ends:
            bits = f'{ends.weight.bits}', f'{ends.activation.bits}'
        runs = plan.runs.get(name, 0) if plan.runs else 1
        rows.append((name, role, *bits, f'{runs}'))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ('  '.join(map(str.ljust, row, widths)) for row in rows)
    return '\n'.join(line.rstrip() for line in lines)


def _role(name: str, plan: LayerPlan) -> str:
    known = plan.roles.get(name, Role(FLOAT, 'no part of what is quantized'))
    if name in plan.adaptive or name in plan.static:
        return BODY
    if name in plan.ends:
        return f'{END} ({known.why})' if known.kind == END else END
    if known.kind == BODY:
        return f'{FLOAT} (of the body, but left out)'
    return f'{known.kind} ({known.why})'
