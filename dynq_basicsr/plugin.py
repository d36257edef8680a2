"""The one explicit list of what the plugin adds to BasicSR, and how it gets there."""

from __future__ import annotations

from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

from dynq_basicsr import compat
from dynq_basicsr.archs.hat_arch import HAT
from dynq_basicsr.archs.idn_arch import IDN
from dynq_basicsr.archs.imdn_arch import IMDN
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.rdn_arch import RDN
from dynq_basicsr.archs.spandrel_arch import Spandrel
from dynq_basicsr.archs.srresnet_bn_arch import SRResNetBN
from dynq_basicsr.command import say_errors_in_one_line
from dynq_basicsr.compat import options
from dynq_basicsr.data import checks
from dynq_basicsr.data.lr_calibration_dataset import LRCalibrationDataset
from dynq_basicsr.errors import DynqError
from dynq_basicsr.metrics.cost_metrics import calculate_bitops, calculate_fab
from dynq_basicsr.models.adabm_model import AdaBMModel
from dynq_basicsr.models.granular_model import GranularDQModel
from dynq_basicsr.models.option_checks import check_types
from dynq_basicsr.models.quantized_model import QuantizedModel

ARCHS: tuple = (QuantizedSR, SRResNetBN, RDN, IDN, IMDN, HAT, Spandrel)
MODELS: tuple = (QuantizedModel, AdaBMModel, GranularDQModel)
DATASETS: tuple = (LRCalibrationDataset,)
METRICS: tuple = (calculate_fab, calculate_bitops)


def register() -> None:
    """Repair BasicSR and add our classes to its registries; may be called any number of times.

    Raises:
        DynqError: If something else is registered under one of our names.
    """
    compat.apply()
    for registry, things in ((ARCH_REGISTRY, ARCHS), (MODEL_REGISTRY, MODELS), (DATASET_REGISTRY, DATASETS),
                             (METRIC_REGISTRY, METRICS)):
        for thing in things:
            _add(registry, thing)
    checks.install()
    if check_option_file not in options.CHECKS:
        options.CHECKS.append(check_option_file)
    say_errors_in_one_line()


def check_option_file(opt: dict) -> None:
    """Find what is wrong with an option file before BasicSR archives the experiment of the same name.

    Args:
        opt: Finished options.

    Raises:
        DynqError: Names the key and the way out.
    """
    check_types(opt)
    model = MODEL_REGISTRY.get(opt['model_type'])
    if model in MODELS:
        model.check_options(opt)


def _add(registry: Registry, thing: Any) -> None:
    name = thing.__name__
    present = name in registry
    if present and registry.get(name) is not thing:
        raise DynqError(f'{name!r} is registered twice in BasicSR, by {registry.get(name).__module__} and by '
                        f'{thing.__module__}; keep one of the two packages.')
    if not present:
        registry.register(thing)
