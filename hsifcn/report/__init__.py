"""Self-contained HTML pages, drawn from the same dicts that are stored as JSON.

`run` draws one training run, `comparison` several contenders on one scene; `formats`, `tables`,
`figures`, `viewer` and `page` are what they are drawn with. Every number on a page is in the dict.
"""

from __future__ import annotations

from hsifcn.report.comparison import write_comparison_report
from hsifcn.report.run import write_run_report
from hsifcn.report.viewer import MappedScene

__all__ = ["MappedScene", "write_comparison_report", "write_run_report"]
