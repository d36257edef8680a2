"""What makes a GPU finish its work, seen on the CPU."""

from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their results, or the shapes of those, depend on values that the host must know.
HOST_READS = {
    f'aten::{name}' for name in ('_local_scalar_dense', 'nonzero', 'equal', 'masked_select', '_unique2', 'bincount')
}


class _Watch(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        flags = name in ('aten::index', 'aten::index_put_') and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if name in HOST_READS or flags:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def host_reads():
    """Note what reads a tensor's values within this block: operators, and methods that no operator tells of."""
    found = []
    with ExitStack() as stack:
        for name in ('tolist', 'numpy', 'cpu'):
            own = getattr(torch.Tensor, name)

            def read(self, *args, name=name, own=own):
                found.append(name)
                return own(self, *args)

            stack.enter_context(mock.patch.object(torch.Tensor, name, read))
        stack.enter_context(_Watch(found))
        yield found
