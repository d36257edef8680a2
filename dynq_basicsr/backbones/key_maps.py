"""Names of the same parameters in other people's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable

# Each rule turns a foreign key into ours; None drops it.
Rule = tuple[str, str | None]

# EDSR as sanghyun-son/EDSR-PyTorch names it (body.i.body.0) and as AdaBM's code does (body.i.conv1), into BasicSR's.
# The mean shift is a constant of BasicSR's class, and AdaBM's quantizer parameters belong to another grid.
_EDSR: tuple[Rule, ...] = (
    (r'(sub|add)_mean\.(weight|bias)', None),
    (r'.*\.(lower_a|upper_a|upper_w|measure_layer)|measure_[lu]', None),
    (r'head\.0\.(.*)', r'conv_first.\1'),
    (r'body\.(\d+)\.body\.0\.(.*)', r'body.\1.conv1.\2'),
    (r'body\.(\d+)\.body\.2\.(.*)', r'body.\1.conv2.\2'),
    (r'body\.\d+\.(weight|bias)', r'conv_after_body.\1'),
    (r'tail\.0\.(\d+)\.(.*)', r'upsample.\1.\2'),
    (r'tail\.1\.(.*)', r'conv_last.\1'),
)


def _by_rules(rules: tuple[Rule, ...]) -> Callable[[str], str | None]:
    def rename(key: str) -> str | None:
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, key)
            if match:
                return None if replacement is None else match.expand(replacement)
        return key

    return rename


# Tried in this order; the first under which every parameter finds its place is taken.
KEY_MAPS: dict[str, Callable[[str], str | None]] = {
    'as they are': lambda key: key,
    'EDSR-PyTorch': _by_rules(_EDSR),
}
