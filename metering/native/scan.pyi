import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]
Place = tuple[int, str, int, tuple[str, ...]]  # number of the type, customer, hour (epoch s), texts

MOST_TYPES_READ: int
MOST_FIELDS_READ: int

class Scanner:
    def __init__(self, layouts: list[tuple[str, tuple[str, ...], tuple[tuple[str, int], ...]]]) -> None: ...
    def scan(
        self, values: list[bytes | None]
    ) -> tuple[
        Longs, Longs, Longs, Longs, Longs, NDArray[np.uint8], Longs, Longs, list[int], list[Place]
    ]: ...
