"""Pages of reports, drawn from frames that somebody else gathered: one HTML file each, asking nobody for anything."""
