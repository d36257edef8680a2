"""``dynq test``: BasicSR's tester with our plugin, below the current directory."""

from __future__ import annotations

from functools import partial

from dynq_basicsr.commands import pipeline

add_arguments = pipeline.add_arguments
run = partial(pipeline.run, module='basicsr.test', pipeline='test_pipeline')
