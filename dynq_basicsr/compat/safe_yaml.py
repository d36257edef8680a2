"""A YAML loader for option files: plain data only, in order, with errors in one sentence."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import yaml

from dynq_basicsr.errors import DynqError, shown

try:
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeDumper, SafeLoader

# Values that a document may come to, each alias counted as often as it is used; option files hold a few hundred.
MAX_VALUES = 100_000
# Characters of a text that count as one value more.
TEXT = 100
# YAML 1.1 wants a dot and a signed exponent, so that 1e-4 is a string to PyYAML; people write it for a number.
_SCIENTIFIC = re.compile(r'[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$')
_MERGE = 'tag:yaml.org,2002:merge'


class OptionLoader(SafeLoader):
    """A safe loader that keeps the order of keys, reads ``1e-4`` as a number and explains what it refuses.

    Beside what is no YAML, it refuses keys that stand twice in a mapping (a merged one, ``<<``, may be overridden),
    keys that are no text, which BasicSR cannot print, and aliases that expand without end.
    """

    def __init__(self, stream: Any):
        super().__init__(stream)
        self.file = getattr(stream, 'name', 'value')

    def get_single_data(self) -> Any:
        """Return the file's content.

        Raises:
            DynqError: If the text is not YAML, has tags that ask for Python objects, or a key stands twice.
        """
        try:
            return super().get_single_data()
        except yaml.MarkedYAMLError as error:
            raise self.explained(error) from error
        except RecursionError as error:
            raise DynqError(f'{self.file}: values lie too deep in one another.') from error
        except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
            raise DynqError(f'{self.file} cannot be read as YAML: {" ".join(str(error).split())[:200]}') from error

    def get_single_node(self) -> yaml.Node | None:
        """Return the document as nodes, checked."""
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, self.repeated)
        return node

    def repeated(self, problem: yaml.MarkedYAMLError) -> None:
        """Refuse a key that stands twice; who does not, gets the last one's value, as from PyYAML.

        Args:
            problem: Names the key and where it stands.
        """
        raise problem

    def explained(self, error: yaml.MarkedYAMLError) -> DynqError:
        """The sentence for what is wrong at a place of the file."""
        return DynqError(_explain(self.file, error))

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put merged keys in the place of ``<<``: own keys come before merged ones, and these in their order.

        PyYAML's own takes the value that was overridden where a mapping with an overridden key is merged once more.
        """
        sources = [value for key, value in node.value if key.tag == _MERGE]
        if not sources:
            return
        pairs: dict[str, tuple] = {}
        for source in sources:
            for one in source.value if isinstance(source, yaml.SequenceNode) else [source]:
                if not isinstance(one, yaml.MappingNode):
                    raise yaml.MarkedYAMLError(problem='<< merges mappings only', problem_mark=one.start_mark)
                self.flatten_mapping(one)
                for pair in one.value:
                    pairs.setdefault(pair[0].value, pair)
        pairs |= {pair[0].value: pair for pair in node.value if pair[0].tag != _MERGE}
        node.value = list(pairs.values())


class OptionDumper(SafeDumper):
    """A safe dumper that writes an OrderedDict as an ordinary mapping."""


def _count(node: yaml.Node, known: dict[int, int], repeated: Callable[[yaml.MarkedYAMLError], None]) -> int:
    """Values below a node, itself included; refuses too many, and keys that are no keys.

    Args:
        node: Of a document.
        known: Node -> how many, where they were counted already; 0: they are being counted.
        repeated: Told of keys that stand twice.
    """
    if id(node) not in known:
        known[id(node)] = 0
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, repeated)
            children = [child for pair in node.value for child in pair]
        else:
            children = node.value if isinstance(node, yaml.SequenceNode) else []
        text = len(node.value) // TEXT if isinstance(node, yaml.ScalarNode) else 0
        known[id(node)] = 1 + text + sum(_count(child, known, repeated) for child in children)
    if not 0 < known[id(node)] <= MAX_VALUES:
        what = 'holds itself' if not known[id(node)] else f'comes to more than {MAX_VALUES} values'
        raise yaml.MarkedYAMLError(problem=f'this value {what}', problem_mark=node.start_mark)
    return known[id(node)]


def _check_keys(node: yaml.MappingNode, repeated: Callable[[yaml.MarkedYAMLError], None]) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if key.tag == _MERGE:
            continue
        if key.tag != yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG:
            what = key.value if isinstance(key, yaml.ScalarNode) else 'a list or mapping'
            raise yaml.MarkedYAMLError(
                problem=f'the key {shown(what)} is no text; put quotes around it', problem_mark=key.start_mark
            )
        if key.value in seen:
            repeated(yaml.MarkedYAMLError(
                problem=f'the key {shown(key.value)} stands in line {seen[key.value]} already; remove one of them',
                problem_mark=key.start_mark,
            ))  # fmt: skip
        seen[key.value] = key.start_mark.line + 1


def _explain(file: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = file if mark is None else f'{file}, line {mark.line + 1}'
    problem = str(error.problem)
    tag = re.search(r"'tag:yaml\.org,2002:(python/[^']*)'", problem)
    if tag:
        return f'{place}: the tag !!{tag[1]} is refused and nothing of it was run; option files hold plain data only.'
    return f'{place}: {problem}.' if ';' in problem else f'{place}: {problem}; mend the YAML there.'


def _construct_mapping(loader: OptionLoader, node: yaml.MappingNode) -> OrderedDict:
    loader.flatten_mapping(node)
    return OrderedDict(loader.construct_pairs(node, deep=True))


def _construct_int(loader: OptionLoader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if value.bit_length() > 1000:  # Python would refuse to print it
        raise ValueError(f'a whole number of {len(node.value)} digits')
    return value


OptionLoader.add_constructor('tag:yaml.org,2002:int', _construct_int)
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
