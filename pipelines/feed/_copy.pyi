from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

def copy_windows(
    source: npt.NDArray[Any], starts: Int64s, lengths: Int64s, width: int, out: npt.NDArray[Any], offset: int, /
) -> None: ...
