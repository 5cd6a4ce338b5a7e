"""Work that is too much for one machine: parts are files, and whoever wants to deals them out.

    from llm2comp_apps.scale import commit_job, plan_job, run_parts

    plan_job("job", ["corpus.jsonl"], parts=100)  # cuts the corpus; once
    run_parts("job")                              # encodes what nobody has encoded yet; on any number of machines
    commit_job("job", "library.index")            # puts all parts into an index, in order

Every step can be repeated: what is done is skipped. :mod:`.folder` says what a job consists of.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm2comp_apps.scale.commit import commit_job
    from llm2comp_apps.scale.job import Job
    from llm2comp_apps.scale.plan import plan_job
    from llm2comp_apps.scale.ray_driver import run_on_ray
    from llm2comp_apps.scale.run import RunReport, run_parts
    from llm2comp_apps.scale.status import JobStatus, job_status

__all__ = ["Job", "JobStatus", "RunReport", "commit_job", "job_status", "plan_job", "run_on_ray", "run_parts"]

_HOME = {
    "Job": "job",
    "JobStatus": "status",
    "RunReport": "run",
    "commit_job": "commit",
    "job_status": "status",
    "plan_job": "plan",
    "run_on_ray": "ray_driver",
    "run_parts": "run",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
