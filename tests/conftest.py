"""What every test starts with: one thread, the quick profile, a run folder of its own."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # tests/gates.py

# Every kernel that nbval starts runs the guard first: chapters have no network.
IPYTHON = Path(tempfile.mkdtemp(prefix="stellarbook-ipython-"))
(IPYTHON / "profile_default/startup").mkdir(parents=True)
shutil.copy(HERE / "regression/offline.py", IPYTHON / "profile_default/startup/00-offline.py")

# nbval starts its kernels with this environment: references were measured under it.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "STELLARBOOK_PROFILE": "quick",
    "STELLARBOOK_RUN": tempfile.mkdtemp(prefix="stellarbook-run-"),
    "IPYTHONDIR": str(IPYTHON),
    # This environment's kernel, before any other of the same name.
    "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
}
