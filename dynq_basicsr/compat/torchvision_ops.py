"""Repairs of torchvision that must be in place before BasicSR, or torchvision itself, can be imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import types

_libraries = []  # torch forgets the operators of a Library that nobody holds


def operator_nms_does_not_exist() -> None:
    """Let torchvision be imported beside a torch for which its compiled operators do not load.

    Symptom: ``RuntimeError: operator torchvision::nms does not exist`` at ``import torchvision``.
    Cause: torchvision registers shape functions for ``nms`` and ``qnms`` without asking whether its library loaded;
        a CUDA build of it beside a CPU build of torch has none.
    Cure: declare the two operators without an implementation. Calling them fails as before, with torchvision's own
        words; where the library did load, nothing is touched.
    """
    import torch
    from torchvision import extension

    if extension._has_ops():
        return
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in ('nms', 'qnms'):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    _libraries.append(library)


class _FunctionalTensorLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        from torchvision.transforms.functional import rgb_to_grayscale
        module.rgb_to_grayscale = rgb_to_grayscale


def no_module_named_functional_tensor(name: str) -> importlib.machinery.ModuleSpec:
    """Bring back the one function that BasicSR imports from a module which torchvision 0.17 dropped.

    Symptom: ``ModuleNotFoundError: No module named 'torchvision.transforms.functional_tensor'`` at
        ``import basicsr``, on GPU machines too.
    Cause: BasicSR 1.4.2 takes ``rgb_to_grayscale`` from there; it lives in ``torchvision.transforms.functional``.
    Cure: a stand-in module with that function, used only where no real module is found.

    Args:
        name: Full name of the missing module.

    Returns:
        The spec of the stand-in.
    """
    return importlib.machinery.ModuleSpec(name, _FunctionalTensorLoader())
