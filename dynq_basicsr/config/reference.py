"""The option reference, for people and for editors, made from the sections.

``python -m dynq_basicsr.config.reference`` writes ``docs/options.md`` and ``docs/options.schema.json``; with
``--check`` it says whether they are what it would write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dynq_basicsr.config.catalog import NOTHING, parts
from dynq_basicsr.config.schema import schema
from dynq_basicsr.config.section import Section
from dynq_basicsr.errors import DynqError, nearest, shown

DOCS = Path(__file__).resolve().parents[1] / 'docs'
_INTRODUCTION = f"""\
# Options

Every key of an option file that a run of ours understands: what it may hold, what it is where it is left out
({NOTHING}: it must be given, or nothing happens without it), and what it means. Where several sections may stand at one
place, `type` says which, and `model_type` which `train`. Keys that are not here are refused, with the nearest that is.

This page and `options.schema.json`, by which editors can check and complete option files, are written by
`python -m dynq_basicsr.config.reference` from the classes in `dynq_basicsr/config/`.
"""


def explain(key: str) -> str:
    """What a key means: one line for each place where it stands.

    Args:
        key: With dots, as ``'train.lr.weight'``, or the end of it: ``'target_bits'``.

    Raises:
        DynqError: If there is no such key; names the nearest.
    """
    lines, names = [], set()
    for part in parts():
        for entry in part.entries:
            names |= {entry.key, entry.key.rpartition('.')[2]}
            if _ends_in(entry.key, key):
                when = part.title.partition(': ')[2]
                default = '' if entry.default == NOTHING else f'; default {entry.default}'
                lines.append(f'{entry.key}{f" ({when})" if when else ""}: {entry.values}{default}. {entry.meaning}')
    if not lines:
        raise DynqError(f'{shown(key)}: no option has this name.{nearest(key, sorted(names))}')
    return '\n'.join(lines)


def _ends_in(key: str, end: str) -> bool:
    """Whether a key ends in some parts, where ``NAME`` stands for any."""
    parts_of_key, wanted = key.split('.'), end.split('.')
    pairs = zip(reversed(parts_of_key), reversed(wanted), strict=False)
    return len(wanted) <= len(parts_of_key) and all(one in ('NAME', other) for one, other in pairs)


def markdown() -> str:
    """The reference as a page."""
    lines = [_INTRODUCTION]
    for part in parts():
        lines += [f'## {part.title or "Top level"}\n', _summary(part.section)]
        lines += ['| key | what it may hold | default | meaning |', '|---|---|---|---|']
        for entry in part.entries:
            cells = (f'`{entry.key.rpartition(".")[2]}`', entry.values, entry.default, entry.meaning)
            lines.append(f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in cells)} |')
        lines.append('')
    return '\n'.join(lines)


def _summary(section: type[Section]) -> str:
    return f'{section.__doc__.splitlines()[0].replace("``", "`")}\n'


def main(arguments: list[str] | None = None) -> int:
    """Write the two files, or compare them.

    Args:
        arguments: ``--check`` compares.

    Returns:
        The exit code: 1 where they differ.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    texts = {
        DOCS / 'options.md': markdown(),
        DOCS / 'options.schema.json': json.dumps(schema(), indent=1, ensure_ascii=False) + '\n',
    }
    if '--check' in arguments:
        stale = [path.name for path, text in texts.items() if not path.is_file() or path.read_text('utf-8') != text]
        sys.stdout.write(f'{" and ".join(stale)}: not up to date.\n' if stale else 'Up to date.\n')
        return 1 if stale else 0
    for path, text in texts.items():
        path.write_text(text, encoding='utf-8', newline='\n')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
