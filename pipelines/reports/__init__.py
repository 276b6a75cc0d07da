"""Reports: what the lake knows of itself is gathered here and drawn by quality/reports."""
