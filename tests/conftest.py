"""What every test shares: where the checkout and the optional real data are, and quiet, repeatable libraries."""

from __future__ import annotations

import os
from pathlib import Path

# Before any library reads them: spinning OpenMP threads make torch many times slower on shared cores, and no test
# may report usage to anybody.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest

hypothesis.settings.register_profile("reclake", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reclake"))

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The repository's root, which is the package `reclake`."""
    return CHECKOUT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `RECLAKE_DATA`, or `../shared/data` beside the checkout; absent, the test skips."""
    folder = Path(os.environ.get("RECLAKE_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RECLAKE_DATA to a folder that holds kuairand-pure and others")
    return folder
