"""Known advisories against what is installed: ``python tests/audit.py``, a part of ``make check``.

``pip-audit`` asks an advisory service. Where none can be reached this says so and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys

TIMEOUT_S = 60
# Advisories that were looked at and do not concern how hsifcn uses the package, with the reason.
IGNORED: dict[str, str] = {}


def main() -> int:
    """Print advisories; gives 1 where there are some."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--skip-editable", "--timeout", "5"]
    for identifier in IGNORED:
        command += ["--ignore-vuln", identifier]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        packages = []
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        print("pip-audit: skipped, no advisory service answers")
        return 0
    found = [(package, vuln) for package in audited for vuln in package["vulns"]]
    for package, vuln in found:
        fixed = ", ".join(vuln["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {vuln['id']}; fixed in {fixed}")
    print(f"pip-audit: {len(audited)} packages, {len(found)} advisories")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
