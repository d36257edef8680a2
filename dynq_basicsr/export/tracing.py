"""What PyTorch's tracing exporter needs of us: room, and sizes in forms that it follows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_STACK = 2**28  # bytes; only what is used becomes memory


def with_deep_stack(action: Callable[[], None]) -> None:
    """Run something in a thread that has room for recursion, which the exporter's C++ does node by node.

    With the usual 8 MB, the process crashes at graphs of some ten thousand nodes.

    Args:
        action: What to run; its exceptions are raised here.
    """
    outcome: Future[None] = Future()

    def work() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    before = threading.stack_size(_STACK)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    try:
        thread.join()
    except KeyboardInterrupt:
        thread.join()  # nothing interrupts the exporter, and standard output is its own meanwhile
        raise
    outcome.result()


class Followed(TorchFunctionMode):
    """While a network is traced: sizes read of ``x.data``, and tensors made of sizes, follow the image.

    The tracer takes both for constants.
    """

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Run an operator, or one in its place."""
        kwargs = kwargs or {}
        if func == Tensor.data.__get__:
            return args[0].detach()
        if func is torch.tensor and args and _holds_tensors(args[0]):
            made = torch.stack([torch.as_tensor(one).reshape(()) for one in args[0]])
            kind, device = kwargs.get('dtype'), kwargs.get('device')
            return made.to(device=made.device if device is None else device, dtype=made.dtype if kind is None else kind)
        return func(*args, **kwargs)


def _holds_tensors(values: object) -> bool:
    return isinstance(values, list | tuple) and any(isinstance(one, Tensor) and one.dim() == 0 for one in values)
