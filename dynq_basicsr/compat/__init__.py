"""Every repair of BasicSR and torchvision, each function named after the symptom that it cures.

``torchvision_ops`` acts before torchvision is imported (the start-up hook calls it); all others change BasicSR's own
modules once it is imported, through :func:`apply`.
"""

import functools


@functools.cache
def apply() -> None:
    """Apply the repairs of BasicSR's modules; a second call does nothing."""
    from dynq_basicsr.compat import (
        archiving,
        distributed,
        epochs,
        interrupted_epoch,
        moved_functions,
        options,
        registries,
        resume,
        tensorboard,
        training,
    )

    for repair in (
        options.option_file_runs_python_code,
        options.force_yml_runs_python_code,
        resume.resume_not_compiled_with_cuda,
        interrupted_epoch.resumed_run_sees_other_batches,
        training.optimizer_is_not_supported,
        distributed.integer_modulo_by_zero_without_gpu,
        distributed.ddp_wants_a_cuda_device,
        archiving.directory_not_empty_when_archiving_twice,
        epochs.training_ends_before_total_iter,
        tensorboard.exception_in_thread_when_the_disk_is_full,
        moved_functions.cannot_import_name_rgb2ycbcr,
        registries.name_is_not_found_use_name,
    ):
        repair()
