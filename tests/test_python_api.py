from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scenes import field_scene

import hsifcn

PAGE = Path(__file__).parent.parent / "docs" / "python.md"


@pytest.mark.slow
def test_the_documented_code_runs(tmp_path):
    scene, labels = field_scene()
    scipy.io.savemat(tmp_path / "cube.mat", {"cube": scene.cube})
    scipy.io.savemat(tmp_path / "cube_gt.mat", {"cube_gt": labels.astype(np.uint8)})
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
    code = code.replace("split=split, seed=0", "split=split, seed=0, steps=2")
    code = code.replace("checkerboard:14:gap=3", "checkerboard:5:gap=1")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) <= 1


def test_public_names_can_be_had_and_called():
    for name in hsifcn.__all__:
        assert callable(getattr(hsifcn, name)), name


def test_dir_shows_the_public_names():
    assert dir(hsifcn) == sorted(hsifcn.__all__)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hsifcn.nothing  # noqa: B018
