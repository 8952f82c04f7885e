"""Settings of every test run, made before torch is imported."""

from __future__ import annotations

import os

# Tests run side by side, on small tensors: threads within an operator would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
