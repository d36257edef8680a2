"""From a float network and pictures to a quantized one."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from basicsr.utils import get_root_logger

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.value_range import value_range_hint
from dynq_basicsr.backbones.torch_files import read_torch_file
from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.data.crops import CropSequence
from dynq_basicsr.doctor.require import require
from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.settings import Settings
from dynq_basicsr.training.figures import Diverged, TrainingFigures
from dynq_basicsr.training.post_training import PostTraining
from dynq_basicsr.training.progress import TrainingBar
from dynq_basicsr.training.saving import save_atomically
from dynq_basicsr.workflow.pictures import Pictures, gather
from dynq_basicsr.workflow.quantized import Quantized
from dynq_basicsr.workflow.recipes import BATCH, choose_recipe, network_sections, train_section
from dynq_basicsr.workflow.source import find_network

if TYPE_CHECKING:
    from dynq_basicsr.export.freeze import Traced

SAVE_EVERY = 30.0  # seconds of work that a crash may cost
CENTRE = 256  # of held-out pictures, a square of this side shows how well the result agrees


@torch.random.fork_rng()
def make(settings: Settings) -> Quantized:
    """Quantize a trained network; see ``dynq_basicsr.quantize``."""
    device, seed = choose_device(settings.device), settings.seed
    made = choose_recipe(settings.method, settings.recipe)
    began = time.perf_counter()
    source = find_network(settings.model, settings.arch, settings.scale)
    torch.manual_seed(seed)
    weight_bits = settings.bits if settings.weight_bits is None else settings.weight_bits
    network = network_sections(made, settings.bits, weight_bits, settings.scope)
    net = QuantizedSR(
        source.backbone, network['quantization'], network['policy'], settings.value_range, settings.output
    )
    if settings.scale not in (None, net.scale):
        raise DynqError(f'scale: the network enlarges by {net.scale}, not {settings.scale}; leave it out.')
    if net.input_channels not in (1, 3):
        raise DynqError(f'model: takes images of {net.input_channels} channels; only 1 and 3 can be quantized here.')
    _say_if_the_range_seems_wrong(net, settings.value_range)
    traced, refusal = _traced(net) if settings.exports else (None, '')
    pictures = gather(settings.images, settings.calibration, net.input_channels, seed)
    train = train_section(made, len(pictures.calibration), pictures.patch)
    net.to(device, memory_format=torch.channels_last)
    training = PostTraining(net, AdaBMOptions.from_dict(train), TrainingFigures())
    earlier = _run(training, pictures, seed, None if settings.work is None else Path(settings.work))
    result = Quantized(net, TilingOptions(), traced=traced)
    seen = pictures.held_out or pictures.calibration[:1]
    print('Comparing it with the float network ...', file=sys.stderr)
    psnr, fab = result.agreement([_centre(one) for one in seen])
    result.report = {
        'found': f'{source.found} It takes {net.image_format.summary()}.',
        'sections': {**network, 'train': train},
        'backbone': source.backbone.options,
        'weights': source.weights,
        'images': len(pictures.calibration),
        'files': pictures.files,
        'channels': net.input_channels,
        'patch': pictures.patch,
        'held_out': len(pictures.held_out),
        'held_out_files': pictures.held_out_files,
        'notes': pictures.notes,
        'refusal': refusal,
        'value_range': net.image_format.value_range,
        'output': net.image_format.output,
        'sample': seen[0],
        'psnr': psnr,
        'bits': fab,
        'seconds': earlier + time.perf_counter() - began,
        'earlier': earlier,
        'stages': dict(training.seconds),
    }
    return result


def _say_if_the_range_seems_wrong(net: QuantizedSR, given: float | None) -> None:
    """Warn of a range of values that was given and that the network does not seem to work on."""
    if given is not None:
        assumed = replace(net.image_format, certain=False)
        if hint := value_range_hint(net.backbone, assumed, 'value_range'):
            get_root_logger().warning(hint)


def _traced(net: QuantizedSR) -> tuple[Traced | None, str]:
    """The network as a graph; or why it will not become a model folder, of which the log warns."""
    require('onnx', 'onnxruntime')
    from dynq_basicsr.export.freeze import trace

    print('Trying whether it can be exported ...', file=sys.stderr)
    try:
        return trace(net), ''
    except DynqError as error:
        get_root_logger().warning(
            f'There will be a checkpoint, but no model folder for the runtime without PyTorch: {error}'
        )
        return None, f'{error}'


def choose_device(device: str | torch.device) -> torch.device:
    """The device that a name means.

    Args:
        device: As torch's; ``auto``: a GPU where there is one.

    Raises:
        DynqError: If there is no such device.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(device)
        torch.zeros(1, device=device)
        if device.type == 'meta':
            raise RuntimeError('it holds no values')
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise DynqError(f'device: {shown(str(device))} is not usable here; take cpu, or auto.') from error
    return device


def _centre(image: torch.Tensor) -> torch.Tensor:
    top, left = (max(side - CENTRE, 0) // 2 for side in image.shape[-2:])
    return image[:, top : top + CENTRE, left : left + CENTRE]


def _run(training: PostTraining, pictures: Pictures, seed: int, work: Path | None) -> float:
    """All iterations, from the one after the last that ``work`` holds; the seconds that an earlier call spent."""
    net, recipe = training.net, training.recipe
    device = next(net.parameters()).device
    crops = CropSequence(pictures.calibration, pictures.patch, seed)
    identity = _identity(net, recipe, pictures, seed)
    done = _restore(training, work, identity)
    earlier = sum(training.seconds.values())
    bar = TrainingBar(recipe.total_iter, done, every=10, lines=True)
    saved = time.perf_counter()
    try:
        for iteration in range(done + 1, recipe.total_iter + 1):
            training.set_rates(iteration)
            training.step(iteration, crops.batch(iteration, BATCH).to(device))
            done = iteration
            bar.update(recipe.stage(iteration), training.figures.read)
            if work is not None and net.calibrated and time.perf_counter() - saved > SAVE_EVERY:
                _save(training, work, identity, done)
                saved = time.perf_counter()
        training.figures.read()
    except KeyboardInterrupt:
        net.holder.clear()
        if work is not None and net.calibrated:
            _save(training, work, identity, done)
        raise
    except Diverged as error:
        raise DynqError(f'{error} Take another recipe, or more bits.') from None
    finally:
        bar.close()
    if work is not None:
        _save(training, work, identity, done)
    return earlier


def _identity(net: QuantizedSR, recipe: AdaBMOptions, pictures: Pictures, seed: int) -> str:
    """What makes another run another: weights, options, images, seed."""
    digest = hashlib.sha256(json.dumps([str(net.description), str(recipe), pictures.patch, seed]).encode())
    for tensor in (*net.backbone.state_dict().values(), *pictures.calibration):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(training: PostTraining, work: Path, identity: str, done: int) -> None:
    net = training.net
    state = {
        'identity': identity,
        'iteration': done,
        'params': {name: value.cpu() for name, value in net.state_dict().items()},
        'optimizers': [one.state_dict() for one in training.stages.values()],
        'seconds': dict(training.seconds),
        'mean_bits': training.budget.mean.item(),
        'loss_limits': training.figures.limits(),
    }
    save_atomically(state, work)


def _restore(training: PostTraining, work: Path | None, identity: str) -> int:
    """Take up what an interrupted call left; the iterations that it did."""
    if work is None or not work.is_file():
        return 0
    try:
        state = read_torch_file(work)
    except DynqError:
        return 0
    if not isinstance(state, dict) or state.get('identity') != identity:
        return 0
    training.net.load_state_dict(state['params'])
    for optimizer, saved in zip(training.stages.values(), state['optimizers'], strict=True):
        optimizer.load_state_dict(saved)
    training.seconds.update(state['seconds'])
    training.budget.mean.fill_(state['mean_bits'])
    training.figures.resume(state['loss_limits'])
    return state['iteration']
