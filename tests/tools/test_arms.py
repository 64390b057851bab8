"""What comes before experiments disturbs none of their times."""

from __future__ import annotations

import subprocess
import sys

ASKED = """
import sys
from tools import arms
try:
    arms.refuse_changed_files()
except SystemExit:
    pass
assert "jax" not in sys.modules
"""


def test_whether_files_changed_is_asked_before_jax_starts():
    """Memory that is freed is kept only where that was asked for before jax started its threads."""
    subprocess.run([sys.executable, "-c", ASKED], check=True)
