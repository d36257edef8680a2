"""The lazy start-up hook: BasicSR sees the plugin because importing ``basicsr`` registers it.

Python runs :func:`install` at every start (``dynq_basicsr_autoload.pth`` and, from Python 3.15,
``dynq_basicsr_autoload.start``), so this module imports only os and sys and does nothing but put one finder in front
of ``sys.meta_path``. The finder waits for a handful of names; everything heavy happens when one of them is imported.

``DYNQ_BASICSR_AUTOLOAD=0`` turns the hook off. By default a plugin that fails to load costs one line on stderr and
BasicSR goes on without it; ``DYNQ_BASICSR_AUTOLOAD=strict`` raises instead.
"""

import os
import sys

VARIABLE = 'DYNQ_BASICSR_AUTOLOAD'
# What of this package does not import BasicSR. Before the first line of anything else runs, BasicSR must be complete:
# were it imported from within such a module, registering the plugin would need that same half-initialised module.
WITHOUT_BASICSR = ('__main__', '_autoload', 'api', 'atomic', 'cli', 'command', 'commands', 'compat',
                   'compat.torchvision_ops', 'compat.safe_yaml', 'config', 'doctor', 'errors', 'export', 'imaging',
                   'numerics', 'option_files', 'plugins', 'policies', 'quantization', 'registry', 'reproduce',
                   'runtime', 'settings', 'test', 'train', 'upscale')


def _before_torchvision_meta():
    from dynq_basicsr.compat import torchvision_ops
    torchvision_ops.operator_nms_does_not_exist()


def _after_basicsr():
    from dynq_basicsr import plugin
    plugin.register()


def _nothing():
    pass


class _Loader:
    """Run code before and after a module's body; everything else is the real loader's business."""

    def __init__(self, loader, before, after):
        self._loader, self._before, self._after = loader, before, after

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        _guarded(self._before)
        self._loader.exec_module(module)
        _guarded(self._after)


class Finder:
    """A meta path finder that reacts to the names below and finds nothing else."""

    wrapped = {
        'torchvision._meta_registrations': (_before_torchvision_meta, _nothing),
        # The last module that the package basicsr imports: all of its registries are filled, nothing is built yet.
        'basicsr.version': (_nothing, _after_basicsr),
    }

    def find_spec(self, name, path=None, target=None):
        """Answer for the few names that are waited for.

        Args:
            name: Full name of the module that is being imported.
            path: Where its parent package looks for it.
            target: A module that is being reloaded.

        Returns:
            A module spec, or None to leave the module to the other finders.
        """
        if _is_on_basicsr(name):
            _import_basicsr_first()
        elif name in self.wrapped:
            spec = self._real_spec(name, path, target)
            if spec is not None and hasattr(spec.loader, 'exec_module'):
                spec.loader = _Loader(spec.loader, *self.wrapped[name])
            return spec
        elif name == 'torchvision.transforms.functional_tensor' and self._real_spec(name, path, target) is None:
            from dynq_basicsr.compat import torchvision_ops
            return torchvision_ops.no_module_named_functional_tensor(name)
        return None

    def _real_spec(self, name, path, target):
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, 'find_spec'):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None


def _is_on_basicsr(name):
    package, _, inside = name.partition('.')
    return (package == 'dynq_basicsr' and bool(inside) and inside not in WITHOUT_BASICSR
            and not inside.startswith(('commands.', 'config.', 'doctor.', 'export.', 'imaging.', 'numerics.',
                                       'policies.', 'quantization.', 'reproduce.', 'runtime.')))


def _import_basicsr_first():
    try:
        import basicsr  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != 'basicsr':
            raise


def _guarded(action):
    """Run `action`; a failure must not take BasicSR down with it, unless the user asked for strictness."""
    try:
        action()
    except Exception as error:
        if os.environ.get(VARIABLE) == 'strict':
            raise
        sys.stderr.write(f'dynq_basicsr: BasicSR goes on without the plugin: {type(error).__name__}: {error}\n')


def install(force=False):
    """Put the finder in front of ``sys.meta_path``, once.

    Args:
        force: Install it even where the variable says 0; for the plugin's own entry points.
    """
    if os.environ.get(VARIABLE) == '0' and not force:
        return
    # By name, because a second copy of this module would bring a second class.
    if not any(type(finder).__module__ == __name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
