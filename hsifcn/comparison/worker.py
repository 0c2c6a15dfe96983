"""A process that does one task: ``python -P -m hsifcn.comparison.worker TASK_FILE``.

It is fresh, so that its peak of memory is its own. The result is a JSON file, written last. What
takes long to import is imported once the process is bound to its parent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hsifcn.comparison.task import INTERRUPTED, NO_ROOM, Task
from hsifcn.core.errors import HsifcnError, MemoryCeilingError
from hsifcn.core.process import end_with_parent
from hsifcn.io.files import write_json

GRACE_S = 1.0  # seconds that an orphan has to end of itself


def main(task_file: str) -> None:
    """Do the task described in a JSON file and write its result where the file says."""
    from hsifcn.comparison.tasks import do_task

    read = json.loads(Path(task_file).read_text("utf-8"))
    write_json(Path(read["result"]), do_task(Task(**read["task"])))


if __name__ == "__main__":
    try:
        end_with_parent(GRACE_S)
        main(sys.argv[1])
    except MemoryCeilingError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(NO_ROOM)
    except HsifcnError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
