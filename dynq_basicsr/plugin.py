"""The one explicit list of what the plugin adds to BasicSR, and how it gets there."""

from __future__ import annotations

from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from dynq_basicsr import compat
from dynq_basicsr.archs.hat_arch import HAT
from dynq_basicsr.archs.idn_arch import IDN
from dynq_basicsr.archs.imdn_arch import IMDN
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.rdn_arch import RDN
from dynq_basicsr.archs.spandrel_arch import Spandrel
from dynq_basicsr.archs.srresnet_bn_arch import SRResNetBN
from dynq_basicsr.compat import options
from dynq_basicsr.compat.registries import add, find
from dynq_basicsr.data.checks import (
    CheckedPairedImageDataset,
    CheckedSingleImageDataset,
    image_does_not_know_its_name,
)
from dynq_basicsr.data.lr_calibration_dataset import LRCalibrationDataset
from dynq_basicsr.errors import PATH, DynqError, shown
from dynq_basicsr.metrics.cost_metrics import calculate_bitops, calculate_fab
from dynq_basicsr.models.adabm_model import AdaBMModel
from dynq_basicsr.models.granular_model import GranularDQModel
from dynq_basicsr.models.option_checks import check_types, try_network
from dynq_basicsr.models.preparation import before_the_log, prepare
from dynq_basicsr.models.quantized_model import QuantizedModel

ARCHS: tuple = (QuantizedSR, SRResNetBN, RDN, IDN, IMDN, HAT, Spandrel)
MODELS: tuple = (QuantizedModel, AdaBMModel, GranularDQModel)
DATASETS: tuple = (LRCalibrationDataset, CheckedPairedImageDataset, CheckedSingleImageDataset)
METRICS: tuple = (calculate_fab, calculate_bitops)


def register() -> None:
    """Repair BasicSR and add our classes to its registries; may be called any number of times.

    A class or function of another package that has the name of one of ours wins, whichever is registered first.
    """
    compat.apply()
    image_does_not_know_its_name()
    for registry, things in ((ARCH_REGISTRY, ARCHS), (MODEL_REGISTRY, MODELS), (DATASET_REGISTRY, DATASETS),
                             (METRIC_REGISTRY, METRICS)):
        for thing in things:
            add(registry, thing)
    for check in (check_option_file, prepare):
        if check not in options.CHECKS:
            options.CHECKS.append(check)


def check_option_file(opt: dict) -> None:
    """Find what is wrong with an option file before BasicSR archives the experiment of the same name.

    Args:
        opt: Finished options.

    Raises:
        DynqError: Names the key and the way out.
    """
    check_types(opt)
    model = find(MODEL_REGISTRY, opt['model_type'])
    if issubclass(model, QuantizedModel):
        with before_the_log():
            model.check_options(opt)
            try_network(opt)
    elif model.load_network is BaseModel.load_network:
        _check_weights(opt)


def _check_weights(opt: dict) -> None:
    """BasicSR itself reads what ``torch.save`` wrote, and no safetensors."""
    for key, path in opt['path'].items():
        if key.startswith('pretrain_network_') and str(path).endswith('.safetensors'):
            raise DynqError(
                f'path.{key}: {opt["model_type"]} reads .pth files only, not {shown(path, PATH)}; name a .pth file, or '
                'test with model_type: QuantizedModel.'
            )
