"""``dynq doctor``: what is installed, what is missing and for which use, and the command that brings it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from dynq_basicsr import __version__
from dynq_basicsr.doctor.examine import Finding, examine, ready
from dynq_basicsr.doctor.fix import fix
from dynq_basicsr.doctor.parts import BY_MODULE

NO_TORCH = (
    '\nPyTorch comes with CUDA, gigabytes, where pip chooses (Linux): without a GPU, install its CPU build first, as '
    'its installation page says.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    what = 'install BasicSR and the torchvision that belongs to the PyTorch that is here, if they are missing'
    parser.add_argument('--fix', action='store_true', help=what)
    parser.add_argument('--json', action='store_true', help='the report for programs')


def run(given: argparse.Namespace) -> int:
    """Print the report.

    Args:
        given: The command line.

    Returns:
        0, or 1 where nothing that the package is used for is complete; 0 after ``--fix``.

    Raises:
        DynqError: If ``--fix`` fails.
    """
    if given.fix:
        fix(lambda command: None if given.json else print(f'running {command}', flush=True))
    findings, uses = examine(), ready()
    if given.json:
        report = {'dynq_basicsr': __version__, 'uses': uses, 'findings': [asdict(one) for one in findings]}
        print(json.dumps(report, indent=2))
    else:
        print(format_report(findings, uses))
    return int(all(uses.values()) and not given.fix)


def format_report(findings: Sequence[Finding], uses: dict[str, str]) -> str:
    """The report for people.

    Args:
        findings: See ``examine``.
        uses: See ``ready``.
    """
    width = max(len(one.name) for one in findings)
    lines = [f'dynq_basicsr {__version__}', '']
    for one in findings:
        needed = f'missing, needed for: {", ".join(one.uses)}' if one.uses else 'not here (optional)'
        trouble = f'  ! {one.trouble}' if one.trouble else ''
        lines.append(f'  {one.name:{width}}  {one.state or needed}{trouble}')
        lines += [f'  {"":{width}}  -> {one.cure}'] if one.cure and one.trouble else []
    lines.append('')
    width = max(map(len, uses))
    lines += [f'  {use:{width}}  {f"run: {cure}" if cure else "ready"}' for use, cure in uses.items()]
    return '\n'.join(lines + ([] if BY_MODULE['torch'].here else [NO_TORCH]))
