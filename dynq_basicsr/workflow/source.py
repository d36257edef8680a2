"""The float network to quantize: a module, or a checkpoint whose architecture is told, recognised or asked for."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dynq_basicsr.archs import spandrel_arch
from dynq_basicsr.archs.arch_options import build_backbone, check_network
from dynq_basicsr.archs.backbone import Backbone
from dynq_basicsr.archs.community import import_spandrel
from dynq_basicsr.backbones.checkpoints import is_quantized, load_weights, read_checkpoint
from dynq_basicsr.backbones.recognise import recognise
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES
from dynq_basicsr.runtime.choices import CHECKPOINT

_WAY_OUT = 'name its architecture and options with --arch NAME key=value (in Python, arch={...})'


@dataclass(frozen=True)
class FloatNetwork:
    """A float network.

    Attributes:
        backbone: The network, with its weights, and what it was built from.
        weights: The checkpoint; None where it was given as a module.
        found: A sentence about how it was found.
    """

    backbone: Backbone
    weights: Path | None
    found: str


def find_network(
    model: str | Path | nn.Module, arch: Mapping[str, object] | None = None, scale: int | None = None
) -> FloatNetwork:
    """Find what a checkpoint holds.

    Args:
        model: A network, which is copied, or a checkpoint: BasicSR's, ours, a community file.
        arch: Architecture and options, ``{type: ..., ...}``, where it is not to be recognised.
        scale: The enlargement, where nothing in the file tells it.

    Raises:
        DynqError: If the checkpoint is quantized already, or nothing fits it.
    """
    if isinstance(model, nn.Module):
        if arch is not None:
            raise DynqError('arch: a network that is given as a module needs none; leave it out.')
        return FloatNetwork(Backbone(_bare(model)), None, f'{type(model).__name__}, as it was given.')
    if not isinstance(model, str | os.PathLike):
        raise DynqError(f'model: must be a checkpoint or a torch.nn.Module, not {type(model).__name__}.')
    path = Path(model)
    _refuse_other_things(path)
    state, description = read_checkpoint(path, None, 'the path of the model')
    if is_quantized(state):
        raise DynqError(f'{path}: is quantized already; export it with `dynq export`, or name the float checkpoint.')
    if arch is not None:
        check_network('--arch', arch)
        return FloatNetwork(_loaded(arch, path, '--arch'), path, f'{arch["type"]}, as --arch says.')
    refusal = ''
    if found := recognise(state, scale or scale_in_name(path)):
        try:
            backbone = _loaded(found.options, path, 'its options')
        except DynqError as error:
            refusal = f' It looks like {found.options["type"]}, but: {error}'
        else:
            assumed = ', '.join(f'{key}={value}' for key, value in found.assumed.items())
            how = f'{_short(found.options)}.' + (f' Assumed: {assumed}.' if assumed else '')
            return FloatNetwork(backbone, path, how)
    elif found := recognise(state, 2):  # where nothing tells the scale, any will do to tell the architecture
        refusal = f' It looks like {found.options["type"]}, whose weights do not tell the enlargement: give --scale.'
    try:
        import_spandrel()
    except DynqError as error:
        raise DynqError(
            f'{path}: its architecture is none of those that are known without spandrel; '
            f"`pip install 'dynq_basicsr[community]'` knows more, or {_WAY_OUT}.{refusal}"
        ) from error
    try:
        descriptor = spandrel_arch.recognise(str(path))
    except DynqError as error:
        raise DynqError(f'{path}: its architecture was not recognised; {_WAY_OUT}.{refusal}') from error
    backbone = Backbone(spandrel_arch.network_of(descriptor, str(path)), {'type': 'Spandrel', 'path': str(path)})
    return FloatNetwork(
        backbone, path, f'{descriptor.architecture.name} x{descriptor.scale}, recognised by spandrel.'
    )


def _refuse_other_things(path: Path) -> None:
    """Refuse what is no file of weights by its kind or name, before it is read as one."""
    if path.is_dir():
        held = path / CHECKPOINT
        hint = f'it holds {CHECKPOINT}, which is quantized already' if held.is_file() else 'name a checkpoint in it'
        raise DynqError(f'{path}: is a folder, not the float checkpoint; {hint}.')
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        raise DynqError(f'{path}: is a picture; the float checkpoint comes first, the pictures behind it.')


def _loaded(options: Mapping[str, object], path: Path, section: str) -> Backbone:
    backbone = Backbone(build_backbone(options, section), dict(options))
    load_weights(backbone.network, path, None, 'the path of the model', section)
    return backbone


def _bare(model: nn.Module) -> nn.Module:
    """A copy in float32, without what runs it in parallel or compiled."""
    while isinstance(inner := getattr(model, '_orig_mod', None) or getattr(model, 'module', None), nn.Module):
        if type(model).__name__ not in ('OptimizedModule', 'DataParallel', 'DistributedDataParallel'):
            break
        model = inner
    if isinstance(model, torch.jit.ScriptModule):
        raise DynqError('model: a TorchScript module has no layers to exchange; give the network behind it.')
    return copy.deepcopy(model).float()


def scale_in_name(path: Path) -> int | None:
    """The scale that the name of a file tells, as in ``IDN_x4.pth`` or ``4x_photo.pth``; None: it tells none."""
    found = re.findall(r'(?:^|[_\-. ])(?:[xX]([2348])|([2348])[xX])(?=$|[_\-. ])', path.stem)
    scales = {int(one or other) for one, other in found}
    return scales.pop() if len(scales) == 1 else None


def _short(options: Mapping[str, object]) -> str:
    return ', '.join(str(value) if key == 'type' else f'{key}={value}' for key, value in options.items())
