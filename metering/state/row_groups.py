"""Which totals a row of a batch belongs to: one lookup for a customer, an hour and its dimensions.

A group is made once, by the rules of `measure`, `misplaced` and `uncountable`, for a whole hour. Where they
do not give one answer for the whole hour, or an event has to be counted by itself, there is no group.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metering import native
from metering.catalog.resolved import Catalog, Meter
from metering.events import TICK_TYPE
from metering.rating.usage import Aggregation, Dimensions
from metering.state.amendments import RESERVED
from metering.state.calendar import HOUR_MS
from metering.state.hourly_table import HourlyTable, TotalKey
from metering.state.measure import is_dimension
from metering.state.row_sums import GroupedRows, Sums, Uses, how_of
from metering.state.totals import Total

if TYPE_CHECKING:
    from metering.native.scan import Place, Scanner

Path = tuple[str, ...]
NONE = -1  # no group: see `measure`
MOST_GROUPS = 200_000  # kept between batches
SUMMED: frozenset[Aggregation] = frozenset({"sum", "count", "average", "max", "min"})


class Layout(NamedTuple):
    """What has to be read from the events of one type: texts at some paths, numbers at some others.

    Each number has the fewest decimals that a meter allows. Groups are known by customer, hour and texts.
    """

    event_type: str
    meters: tuple[Meter, ...]
    texts: tuple[Path, ...]
    numbers: tuple[tuple[Path, int], ...]
    uses: Uses
    known: dict[tuple[object, ...], int]

    @property
    def is_flat(self) -> bool:
        """Whether the scanner can read it: few fields, none of them inside another."""
        fields = (*self.texts, *(path for path, _ in self.numbers))
        most = native.scan.MOST_FIELDS_READ if native.scan is not None else 0
        return max(len(self.texts), len(self.numbers)) <= most and all(len(path) == 1 for path in fields)

    def number_of(self, meter: Meter) -> int | None:
        """Which of the numbers a meter adds up; None for one that counts events."""
        return None if meter.aggregation == "count" else _place_of(meter, self.numbers)


def _place_of(meter: Meter, numbers: tuple[tuple[Path, int], ...]) -> int:
    return next(place for place, (path, _) in enumerate(numbers) if path == meter.value_path)


class Group:
    """The totals that a row of this group changes, each with the number that it takes (None: it counts)."""

    __slots__ = ("_places", "_totals", "_when", "numbers")

    def __init__(self, places: list[tuple[TotalKey, Aggregation]], numbers: list[int | None]) -> None:
        self._places = places
        self._totals: list[Total] = []
        self._when = -1
        self.numbers = numbers

    def totals(self, table: HourlyTable) -> list[Total]:
        """The totals themselves; they are put down as changed."""
        if self._when != table.moved:
            self._totals = [table.held(place, kind) for place, kind in self._places]
            self._when = table.moved
        return self._totals


class RowGroups:
    """The groups of one partition under one catalog."""

    def __init__(
        self,
        table: HourlyTable,
        catalog: Catalog,
        is_ours: Callable[[str], bool],
        is_watched: Callable[[str], bool] | None = None,
        renewed: int = 0,
        *,
        compiled: bool = True,
    ) -> None:
        self.catalog = catalog
        self._table = table
        self._is_ours = is_ours  # whether an account lives in this partition
        self._is_watched = is_watched  # whether quotas want its events one by one
        self._renewed = renewed
        self._layouts: dict[str, Layout | None] = {}
        self.groups: list[Group] = []
        self._places = 0  # totals of all groups
        self._made = 0  # groups and places without one: both are kept
        self.scanned: list[Layout] = []  # what the scanner reads
        self.scanner = self._scanner() if compiled and native.scan is not None else None
        self._number_of = np.empty(0, np.int64)  # the group of each place that the scanner has met
        self._met = 0
        self._sums = Sums()

    def add(self, rows: GroupedRows) -> None:
        """Add rows of these groups; they are in their totals as soon as somebody reads these."""
        if not self._sums.has_room(rows):
            self._table.settle()
        self._sums.add(rows)
        self._table.wait_for(self._settle, self._places)

    def _settle(self) -> None:
        self._sums.settle(self.groups, self._table)

    def _scanner(self) -> "Scanner | None":
        """A scanner for the types whose events have all that is read at their top."""
        assert native.scan is not None
        for event_type in self.catalog.event_types:
            layout = self.layout(event_type)
            if layout is not None and layout.is_flat and len(self.scanned) < native.scan.MOST_TYPES_READ:
                self.scanned.append(layout)
        wanted = [
            (
                one.event_type,
                tuple(text for (text,) in one.texts),
                tuple((key, n) for (key,), n in one.numbers),
            )
            for one in self.scanned
        ]
        return native.scan.Scanner(wanted) if wanted else None

    def learn(self, fresh: "list[Place]") -> NDArray[np.int64]:
        """The group of each place that the scanner has met, with those that are new."""
        behind = self._met + len(fresh)
        if behind > len(self._number_of):
            self._number_of = np.resize(self._number_of, 2 * behind)
        for kind, customer, hour, texts in fresh:
            layout, place = self.scanned[kind], (customer, hour, *texts)
            number = layout.known.get(place)
            self._number_of[self._met] = self.make(layout, place) if number is None else number
            self._met += 1
        return self._number_of

    def is_for(self, catalog: Catalog, renewed: int) -> bool:
        """Whether the groups are right under a catalog and what quotas watch; too many are made anew."""
        return self.catalog is catalog and self._renewed == renewed and self._made <= MOST_GROUPS

    def layout(self, event_type: str) -> Layout | None:
        """How to read events of a type; None when each has to be looked at by itself."""
        if event_type not in self._layouts:
            if len(self._layouts) > MOST_GROUPS:
                self._layouts.clear()
            self._layouts[event_type] = self._layout(event_type)
        return self._layouts[event_type]

    def _layout(self, event_type: str) -> Layout | None:
        meters = self.catalog.meters_for(event_type)
        if not meters or event_type == TICK_TYPE or event_type.startswith(RESERVED):
            return None
        texts = {path for meter in meters for path in meter.dimension_paths}
        texts |= {path for meter in meters for path, _ in meter.filters}
        scales: dict[Path, int] = {}
        for meter in meters:
            if meter.aggregation not in SUMMED:
                return None
            if meter.aggregation != "count":
                scales[meter.value_path] = min(meter.scale, scales.get(meter.value_path, meter.scale))
        numbers = tuple(scales.items())
        added = [meter for meter in meters if meter.aggregation != "count"]
        uses = dict.fromkeys((_place_of(meter, numbers), how_of(meter.aggregation)) for meter in added)
        return Layout(event_type, meters, tuple(sorted(texts)), numbers, tuple(uses), {})

    def make(self, layout: Layout, place: tuple[object, ...]) -> int:
        """The number of a new group, or NONE."""
        customer, hour, *texts = place
        assert isinstance(customer, str)
        assert isinstance(hour, int)
        found = self._group(layout, customer, hour, dict(zip(layout.texts, map(str, texts), strict=True)))
        number = NONE
        if found is not None:
            number = len(self.groups)
            self.groups.append(found)
            self._places += len(found.numbers)
        layout.known[place] = number
        self._made += 1
        return number

    def _group(self, layout: Layout, customer: str, hour: int, texts: dict[Path, str]) -> Group | None:
        starts, ends = hour * 1_000, hour * 1_000 + HOUR_MS
        if not self._counts(customer, starts, ends):
            return None
        if any(starts < meter.start_ms < ends for meter in layout.meters):
            return None
        in_force = [meter for meter in layout.meters if meter.start_ms <= starts]
        places: list[tuple[TotalKey, Aggregation]] = []
        numbers = []
        for meter in in_force:
            if all(texts[path] in wanted for path, wanted in meter.filters):
                dimensions = _dimensions(meter, texts)
                place = (customer, meter.id, dimensions, hour) if dimensions is not None else None
                if place is None or self._table.kind(place) not in (None, meter.aggregation):
                    return None
                places.append((place, meter.aggregation))
                numbers.append(layout.number_of(meter))
        return Group(places, numbers) if in_force else None

    def _counts(self, customer: str, starts: int, ends: int) -> bool:
        found = self.catalog.customer(customer)
        if found is None or not self._is_ours(found.account):
            return False
        if self._is_watched is not None and self._is_watched(found.account):
            return False
        return found.start_ms <= starts and (found.end_ms is None or ends <= found.end_ms)


def _dimensions(meter: Meter, texts: dict[Path, str]) -> Dimensions | None:
    values = [texts[path] for path in meter.dimension_paths]
    if not all(map(is_dimension, values)):
        return None
    return tuple(zip(meter.dimensions, values, strict=True))
