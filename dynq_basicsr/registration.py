"""BasicSR ready for whoever starts with a command or a call of ours, whatever the start-up hook is set to."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from os import PathLike

from dynq_basicsr import _autoload
from dynq_basicsr.plugins import load_plugins


def register(plugins: Iterable[str | PathLike] = ()) -> None:
    """Import BasicSR with the plugin, and then what the user names.

    Args:
        plugins: Files and modules, see ``load_plugins``.

    Raises:
        DynqError: If one of them fails; names the file and the line.
    """
    _autoload.install(force=True)
    import_module('basicsr')
    # again, because the start-up hook swallows what goes wrong here; registering twice is harmless
    import_module('dynq_basicsr.plugin').register()
    load_plugins([str(one) for one in plugins])
