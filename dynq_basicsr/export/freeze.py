"""A calibrated network as a folder with one integer graph, which serves all bits that its policy can choose."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from tqdm import tqdm

import dynq_basicsr
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.base_graph import resolutions, trace_controller, trace_network
from dynq_basicsr.export.check import (
    Agreement,
    agreement,
    check_layers,
    check_skeleton,
    run_at,
    trial_images,
)
from dynq_basicsr.export.frozen import check_grids, float_layers, freeze_layers, grids_of
from dynq_basicsr.export.graph import take_shared_constants
from dynq_basicsr.export.kernels import KernelAssembler
from dynq_basicsr.export.model_folder import check_target, writing_folder
from dynq_basicsr.export.portable import PortableAssembler
from dynq_basicsr.export.simplify import Base, simplify
from dynq_basicsr.models.tiling import TilingOptions
from dynq_basicsr.quantization.data_flow import evaluating
from dynq_basicsr.runtime.sessions import Session, open_sessions
from dynq_basicsr.training.progress import LINE_EVERY


@dataclass(frozen=True)
class ExportedCode:
    """What became of one bit assignment.

    Attributes:
        code: Its name.
        fab: Mean bits over adaptive layers.
        agreement: With the fake-quantized network on artificial images.
    """

    code: str
    fab: float
    agreement: Agreement


@dataclass(frozen=True)
class Exported:
    """What became of a network.

    Attributes:
        codes: Its bit assignments.
        size: Of the model folder, bytes; further files of it do not count.
        float_size: Of the float network's parameters, bytes.
    """

    codes: Sequence[ExportedCode]
    size: int
    float_size: int


def freeze(
    net: QuantizedSR,
    folder: str | Path,
    tiling: TilingOptions,
    expected: Mapping[str, Mapping[str, float]] | None = None,
    scale: int | None = None,
    also: Mapping[str, bytes] | None = None,
    qdq: bool = False,
    traced: Traced | None = None,
) -> Exported:
    """Write a model folder.

    Args:
        net: A calibrated network; moved to the CPU.
        folder: Where to; made, or replaced if it is a model folder.
        tiling: How images are cut into patches unless the runtime is told otherwise.
        expected: Data set -> metric -> value, measured in PyTorch, for the manifest.
        scale: What the option file says; None: nothing.
        also: Further files of the folder, by name.
        qdq: Write the network for OpenVINO and other runtimes, too.
        traced: What ``trace`` made of the same network, which takes long; None: not done yet.

    Raises:
        DynqError: If the network cannot be frozen exactly; says why. Nothing is written then.
    """
    if not net.plan.quantized:
        raise DynqError('The network is float (quantization is off), so there are no integers to export.')
    if not net.calibrated:
        raise DynqError('The quantized network was never calibrated; train it before it is exported.')
    check_target(folder)
    net = net.cpu().float().eval().to(memory_format=torch.contiguous_format)
    if scale is not None and scale != net.scale:
        raise DynqError(
            f'scale: the option file says {scale}, but the network enlarges by {net.scale}; make them agree.'
        )
    configs, policy = net.policy.bit_configs(), net.policy.runtime_spec()
    frozen = {code: freeze_layers(net, bits) for code, bits in configs.items()}
    layers = next(iter(frozen.values()))  # but for grids, those of all codes are the same
    grids = {code: grids_of(frozen[code]) for code in configs}
    if traced is None or not traced.fits(net):
        traced = trace(net)
    base, factors = traced.base, traced.factors
    network = KernelAssembler(base, factors).assemble(layers, list(grids.values()))
    sessions = open_sessions(network.SerializeToString(), 'the graph', grids)
    codes, told = [], time.monotonic()
    bar = tqdm(configs.items(), desc='export', unit='code', disable=None, leave=False)
    for code, bits in bar:
        check_layers(net, bits, frozen[code], factors)
        fab = sum(bits) / len(bits) if bits else 32.0
        codes.append(ExportedCode(code, fab, _agreement(net, bits, sessions[code])))
        if bar.disable and time.monotonic() - told > LINE_EVERY:  # no terminal
            print(f'export: {len(codes)} of {len(configs)} bit assignments', file=sys.stderr)
            told = time.monotonic()
    with writing_folder(folder) as writer:
        for name, content in (also or {}).items():
            writer.add(name, content)
        graphs = dict.fromkeys(('network', 'qdq', 'shared', 'controller'))
        if qdq:
            portable = PortableAssembler(base).assemble(layers, list(grids.values()))
            graphs['shared'] = writer.add('shared.onnx', take_shared_constants([network, portable]))
            graphs['qdq'] = writer.add('network.qdq.onnx', portable.SerializeToString())
        graphs['network'] = writer.add('network.onnx', network.SerializeToString())
        if net.policy.runtime_module is not None:
            model = KernelAssembler(simplify(trace_controller(net)), factors).assemble(layers)
            graphs['controller'] = writer.add('controller.onnx', model.SerializeToString())
        manifest = writer.finish(
            {
                'versions': {
                    'dynq_basicsr': dynq_basicsr.__version__,
                    'torch': torch.__version__,
                    'onnx': onnx.__version__,
                },
                'scale': net.scale,
                'channels': net.input_channels,
                'size': {'multiple': net.sizes.multiple, 'least': max(net.sizes.minimum, 1)},
                'scope': net.quantization.scope,
                **graphs,
                'codes': {
                    one.code: {
                        'fab': one.fab,
                        'grids': {name: grid.values() for name, grid in grids[one.code].items()},
                    }
                    for one in codes
                },
                'policy': policy,
                'tiling': {
                    'patch_size': tiling.patch_size,
                    'patch_step': tiling.patch_step or tiling.patch_size,
                    'patch_merge': tiling.patch_merge,
                },
                'network_g': _plain({'type': 'QuantizedSR', **net.description}),
                'expected': expected or {},
            }
        )
    size = sum(entry['bytes'] for entry in (manifest, *graphs.values()) if entry)
    return Exported(codes, size, _float_size(net))


@dataclass(frozen=True)
class Traced:
    """A network without its layers, as a graph.

    Attributes:
        base: The graph, checked; for any number of samples if that can be, else for one.
        factors: See ``base_graph.resolutions``.
        constants: SHA-256 of the float weights that are part of it.
    """

    base: Base
    factors: Mapping[str, int]
    constants: str

    def fits(self, net: QuantizedSR) -> bool:
        """Whether the network is still the one that was traced."""
        return self.constants == _constants(net)


def trace(net: QuantizedSR) -> Traced:
    """Trace a network, calibrated or not.

    Args:
        net: On the CPU.

    Raises:
        DynqError: If it cannot become a model folder, as far as that is known before it is calibrated.
    """
    with evaluating(net):
        check_grids(net)
        layers, factors = float_layers(net), resolutions(net)

        def checked(single: bool) -> Traced:
            base = simplify(trace_network(net, single))
            check_skeleton(net, KernelAssembler(base, factors).assemble(layers))
            return Traced(base, factors, _constants(net))

        try:
            return checked(single=False)
        except DynqError:
            return checked(single=True)


def _constants(net: QuantizedSR) -> str:
    """What of the backbone is neither a quantized layer nor one that is frozen like these."""
    layers = tuple(f'{layer.name}.' for layer in (*net.quant_layers(), *net.precise_layers()))
    digest = hashlib.sha256()
    for name, value in (*net.backbone.named_parameters(), *net.backbone.named_buffers()):
        if not name.startswith(layers):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _float_size(net: QuantizedSR) -> int:
    """Bytes of the float network's parameters."""
    ours = {
        id(one) for layer in net.quant_layers() for part in (layer.activation_range, layer.weight_range)
        for one in part.parameters()
    }  # fmt: skip
    return sum(4 * one.numel() for one in net.backbone.parameters() if id(one) not in ours)


def _agreement(net: QuantizedSR, bits: tuple[float, ...], session: Session) -> Agreement:
    pairs = [(run_at(net, image, bits), session(image.numpy())) for image in trial_images(net)]
    each = [agreement(expected.numpy(), result) for expected, result in pairs]
    return Agreement(*(sum(values) / len(each) for values in zip(*(asdict(one).values() for one in each), strict=True)))


def _plain(value: object) -> object:
    """Mappings and sequences as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
