"""A YAML loader for option files: plain data only, in order, with errors in one sentence."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import yaml

from dynq_basicsr.errors import DynqError

try:
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeDumper, SafeLoader

# YAML 1.1 wants a dot and a signed exponent, so that 1e-4 is a string to PyYAML; people write it for a number.
_SCIENTIFIC = re.compile(r'[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$')


class OptionLoader(SafeLoader):
    """A safe loader that keeps the order of keys, reads ``1e-4`` as a number and explains what it refuses."""

    def __init__(self, stream: Any):
        super().__init__(stream)
        self.file = getattr(stream, 'name', 'value')

    def get_single_data(self) -> Any:
        """Return the file's content.

        Raises:
            DynqError: If the text is not YAML, or has tags that ask for Python objects.
        """
        try:
            return super().get_single_data()
        except yaml.MarkedYAMLError as error:
            raise DynqError(_explain(self.file, error)) from error
        except (yaml.YAMLError, ValueError) as error:
            raise DynqError(f'{self.file} cannot be read as YAML: {" ".join(str(error).split())}') from error


class OptionDumper(SafeDumper):
    """A safe dumper that writes an OrderedDict as an ordinary mapping."""


def _explain(file: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = file if mark is None else f'{file}, line {mark.line + 1}'
    problem = str(error.problem)
    tag = re.search(r"'tag:yaml\.org,2002:(python/[^']*)'", problem)
    if tag:
        return f'{place}: the tag !!{tag[1]} is refused and nothing of it was run; option files hold plain data only.'
    return f'{place}: {problem}; mend the YAML there.'


def _construct_mapping(loader: OptionLoader, node: yaml.MappingNode) -> OrderedDict:
    loader.flatten_mapping(node)
    return OrderedDict(loader.construct_pairs(node, deep=True))


OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
OptionLoader.add_implicit_resolver('tag:yaml.org,2002:float', _SCIENTIFIC, list('-+.0123456789'))
OptionDumper.add_representer(OrderedDict, lambda dumper, data: dumper.represent_dict(data.items()))


def parse_value(text: str) -> Any:
    """Read one value from the command line as an option file would, without running anything.

    Args:
        text: What stands behind the ``=``; BasicSR's spellings ``none`` and ``!!float1e-3`` are understood.

    Returns:
        A number, text, list, mapping, truth value or None.

    Raises:
        DynqError: If it is not YAML, or has tags that ask for Python objects.
    """
    if text.lower() == 'none':
        return None
    return yaml.load(re.sub(r'^!!float\s*', '!!float ', text), Loader=OptionLoader)
