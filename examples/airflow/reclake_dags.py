"""Drop this file into Airflow's dags folder: it makes reclake_hourly, reclake_daily and reclake_report.

RECLAKE_PYTHON   the interpreter reclake is installed for, e.g. /srv/reclake/.venv/bin/python
RECLAKE_CONFIG   the absolute path of dags.toml, which names the lake

Airflow's own environment needs only this package without its dependencies: pip install --no-deps reclake
"""

import os
import sys

from reclake.dags.airflow import build_dags

globals().update(
    build_dags(
        python=os.environ.get("RECLAKE_PYTHON", sys.executable),
        config=os.environ.get("RECLAKE_CONFIG", "/srv/lake/dags.toml"),
    )
)
