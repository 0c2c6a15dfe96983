"""What is done on the workers of a Dask cluster.

Dask's own process imports this module, so PyTorch is loaded by the functions: memory is asked for
as in the processes of this machine only if that is settled before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hsifcn.core.process import ask_for_huge_pages, load_torch

MEMORY_SHARE = 0.6  # of a worker's limit that a scene may take


def check_on_worker(job: dict[str, Any]) -> str | None:
    """Why this worker cannot do a job, None where it can."""
    ask_for_huge_pages()
    load_torch()
    from hsifcn.inference.campaign.job import Job, unfit

    return unfit(Job(**job))


def map_on_worker(job: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """Map a scene with the threads of this worker, within its limit of memory."""
    from distributed import get_worker

    ask_for_huge_pages()
    load_torch()
    from hsifcn.inference.campaign.job import Job, map_scene
    from hsifcn.inference.campaign.scene_list import Task

    worker = get_worker()
    options = dict(job["options"])
    limit = worker.memory_manager.memory_limit
    if limit and options["max_memory"] is None:
        options["max_memory"] = int(MEMORY_SHARE * limit)
    mine = replace(Job(**job), options=options, threads=worker.state.nthreads)
    return {**map_scene(mine, Task(**task)), "worker": worker.address}
