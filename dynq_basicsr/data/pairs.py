"""Whether LQ and GT belong together: by name and by size."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dynq_basicsr.data.sources import counted, some
from dynq_basicsr.errors import DynqError, nearest, shown


def check_pair_names(section: str, opt: Mapping, lq_names: list[str], gt_names: list[str]) -> None:
    """Refuse folders in which some image has no partner, by BasicSR's rule ``filename_tmpl.format(stem) + ext``.

    Args:
        section: The data set, for the error.
        opt: Its options: ``dataroot_lq``, ``dataroot_gt``, ``filename_tmpl``.
        lq_names: The files of ``dataroot_lq``.
        gt_names: The files of ``dataroot_gt``.

    Raises:
        DynqError: Names the first images without a partner, and both numbers.
    """
    template = opt.get('filename_tmpl', '{}')
    expected = {lq_name(section, template, name): name for name in gt_names}
    numbers = f'({counted(len(lq_names), "LQ image")}, {counted(len(gt_names), "GT image")})'
    present = set(lq_names)
    missing = sorted(name for name in expected if name not in present)
    if missing:
        raise DynqError(f'{section}: {some(missing)} is not in {str(opt["dataroot_lq"])!r} {numbers}; add it, remove '
                        f'its GT {expected[missing[0]]!r}, or correct filename_tmpl {template!r}.'
                        f'{nearest(missing[0], lq_names, count=1)}')
    extra = sorted(present - set(expected))
    if extra:
        raise DynqError(f'{section}: {some(extra)} of {str(opt["dataroot_lq"])!r} has no GT in '
                        f'{str(opt["dataroot_gt"])!r} {numbers}; remove it or add its GT.')


def lq_name(section: str, template: str, name: str) -> str:
    """The name of the LQ image that belongs to a GT image.

    Args:
        section: The data set, for the error.
        template: Its ``filename_tmpl``.
        name: Of the GT image.

    Raises:
        DynqError: If the template cannot be filled in.
    """
    stem, suffix = os.path.splitext(name)
    try:
        return template.format(stem) + suffix
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise DynqError(f'{section}: filename_tmpl {shown(template)} cannot be filled in; it holds {{}} once, for the '
                        'name of the GT image.') from error


def check_sizes(opt: Mapping, sizes: Mapping[str, tuple[str, int, int]]) -> None:
    """Refuse a pair of which GT is not ``scale`` times LQ, or of which LQ is smaller than a training patch.

    BasicSR crops a larger GT silently in validation, so a wrong ``scale`` or folder would only show as a low PSNR. The
    few rows and columns by which an uncropped photograph exceeds a multiple of the scale are left to it.

    Args:
        opt: The data set's options: ``scale``, and for training ``phase`` and ``gt_size``.
        sizes: Name, width and height in pixels of ``lq`` and ``gt`` as last decoded.

    Raises:
        DynqError: Names the files, both sizes and the scale.
    """
    (lq, lq_width, lq_height), (gt, gt_width, gt_height) = sizes['lq'], sizes['gt']
    scale = opt['scale']
    width, height = lq_width * scale, lq_height * scale
    slack = 0 if opt.get('phase') == 'train' else scale - 1
    if not (0 <= gt_width - width <= slack and 0 <= gt_height - height <= slack):
        raise DynqError(f'{gt}: GT is {gt_width}x{gt_height} pixels and LQ ({lq}) {lq_width}x{lq_height}, but at scale '
                        f'{scale} GT must be {width}x{height}; crop GT or make LQ again, or correct scale, dataroot_gt '
                        'or dataroot_lq.')
    if opt.get('phase') == 'train' and min(lq_width, lq_height) * scale < opt['gt_size'] // scale * scale:
        raise DynqError(f'{lq}: LQ is {lq_width}x{lq_height} pixels, smaller than the patch of gt_size '
                        f'{opt["gt_size"]} at scale {scale}; remove the pair or set a smaller gt_size.')
