"""Content-adaptive bit-widths for super-resolution networks, as a BasicSR plugin."""

__version__ = '0.1.0'
