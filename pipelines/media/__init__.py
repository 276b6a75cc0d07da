"""Media: a plan's operators over the items of a manifest, on Ray Data, to gated content rows and dead letters."""

from .run import MediaResult, run_media

__all__ = ["MediaResult", "run_media"]
