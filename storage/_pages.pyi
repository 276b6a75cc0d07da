from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

def crc32_start(data: pa.Buffer, /) -> tuple[int, int]: ...
def page(chunk: pa.Buffer, at: int, /) -> tuple[int, int, int, int, int] | None: ...
def list_levels(
    body: pa.Buffer,
    levels: int,
    full: int,
    starts: npt.NDArray[np.int64],
    rows: int,
    elements: int,
    valid: npt.NDArray[np.bool_] | None,
    /,
) -> tuple[int, int, int, int]: ...
def join_bytes(body: pa.Buffer, at: int, count: int, width: int, out: npt.NDArray[Any], to: int, /) -> None: ...
