"""Finds and runs the hsifcn command; knows nothing of QGIS but the feedback that it is given."""

import json
import os
import re
import shutil
import subprocess
import threading
import time

SETTING = "HSIFCN_COMMAND"  # of Processing; an environment variable of that name goes before it
NOT_FOUND = (
    "The hsifcn command was not found. Install it in a Python environment of its own (pip install "
    "hsifcn) and name it under Settings > Options > Processing > Providers > hsifcn."
)
# QGIS sets these for its own Python and libraries. They would break those of another environment.
OF_QGIS = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "GDAL_DATA", "GDAL_DRIVER_PATH"),
    *("PROJ_LIB", "PROJ_DATA", "QT_PLUGIN_PATH", "LD_LIBRARY_PATH"),
)
PATIENCE = 10  # seconds that a cancelled command has to end by itself
PROGRESS = re.compile(r"progress (\d+)/(\d+)")


class CommandError(Exception):
    """The command ended with an error; its text is the line that the command printed."""


class CancelledError(Exception):
    """The user cancelled, and the command has ended."""


def find_command(named=""):
    """Path of the command: as named, or on the PATH; None where it is not there."""
    named = os.environ.get(SETTING) or named or "hsifcn"
    return shutil.which(os.path.expanduser(named.strip()))


def run_command(command, arguments, feedback):
    """Run the command and give its result.

    Parameters
    ----------
    command : str
        Path of the command.
    arguments : list of str
    feedback : QgsProcessingFeedback
        Or what has its ``isCanceled``, ``setProgress`` and ``pushInfo``.

    Returns
    -------
    dict
        What the command printed with ``--json``.

    Raises
    ------
    CommandError, CancelledError
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_QGIS}
    environment["HSIFCN_PROGRESS"] = "lines"
    environment["PYTHONIOENCODING"] = "utf-8"
    process = subprocess.Popen(
        [command, *arguments, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    printed, told = [], []
    readers = [
        threading.Thread(target=lambda: printed.append(process.stdout.read())),
        threading.Thread(target=lambda: told.extend(process.stderr)),
    ]
    for reader in readers:
        reader.start()
    shown = 0
    try:
        while any(reader.is_alive() for reader in readers):
            shown = _tell(told, shown, feedback)
            if feedback.isCanceled():
                raise CancelledError("cancelled")
            time.sleep(0.05)
        _tell(told, shown, feedback)
        code = process.wait()
    finally:
        _end(process)
        for reader in readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()
    if code:
        errors = [line for line in told if line.startswith("error: ")]
        raise CommandError((errors or told or [f"hsifcn ended with code {code}"])[-1].strip())
    return json.loads(printed[0])


def _tell(lines, first, feedback):
    """Pass on the lines from ``first`` on; gives how many there are now."""
    count = len(lines)
    for line in lines[first:count]:
        progress = PROGRESS.fullmatch(line.strip())
        if progress:
            feedback.setProgress(100 * int(progress[1]) / int(progress[2]))
        elif line.strip() and not line.startswith("error: "):
            feedback.pushInfo(line.rstrip())
    return count


def _end(process):
    """End the process: politely, then for good."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
