"""``dynq train``: BasicSR's trainer with our plugin, below the current directory."""

from __future__ import annotations

from functools import partial

from dynq_basicsr.commands import pipeline

INTERRUPTED = '--auto_resume goes on from the last saved state, if there is one.'
add_arguments = pipeline.add_arguments
run = partial(pipeline.run, module='basicsr.train', pipeline='train_pipeline')
