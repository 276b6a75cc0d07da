"""Opening containers of sound and pictures that a stranger made."""

from __future__ import annotations

import io
from typing import Any

from ...schemas.errors import OperatorError

# Only formats that hold their media themselves. FFmpeg guesses the format from the bytes, and playlists (HLS, DASH,
# concat, SDP …) would make it open whatever files and addresses they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi",
    "mpegts",
    "mpeg",
    "flv",
    "asf",
    "ogg",
    "mp3",
    "aac",
    "wav",
    "w64",
    "flac",
    "aiff",
    "amr",
    "caf",
)


def open_container(data: bytes) -> Any:
    """A PyAV input container over bytes; close it.

    Raises:
        OperatorError: none of FORMATS, or damaged at its beginning.
    """
    import av

    try:
        return av.open(io.BytesIO(data), options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"})
    except av.FFmpegError as error:
        raise OperatorError(
            "not a clip or sound in a known format, or damaged",
            expected="MP4, Matroska, WebM, Ogg, MP3, WAV, FLAC …",
            got=f"{len(data)} bytes; {error.strerror}",
        ) from None
