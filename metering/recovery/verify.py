"""Whether the copies of a state agree: local folder, journal, and the log folded again."""

from dataclasses import dataclass, field
from typing import Literal

from metering.recovery.canonical import Canonical, canonical, differences
from metering.recovery.copies import Copies, Part
from metering.recovery.history import Unavailable
from metering.recovery.refold import Place
from metering.settings import Settings
from metering.state import opening

Verdict = Literal["agree", "differ", "one copy", "no state"]


@dataclass
class Checked:
    """What was found for one partition of one fold; `log` is the state at the places of the other copies."""

    part: Part
    local: Canonical | None = None
    journal: Canonical | None = None
    log: dict[Place, Canonical] = field(default_factory=dict)
    no_log: str = ""  # why the log cannot be folded again
    differences: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def verdict(self) -> Verdict:
        """The result in a word."""
        if self.local is None and self.journal is None:
            return "no state"
        if self.differences:
            return "differ"
        return "agree" if self.compared else "one copy"


async def verify(settings: Settings, only: int | None = None) -> list[Checked]:
    """Compare every copy of every partition's state, or of one partition; nothing is changed."""
    with opening.held(settings):
        async with Copies.of(settings) as copies:
            return [await _check(copies, part) for part in copies.parts(only)]


async def _check(copies: Copies, part: Part) -> Checked:
    local = copies.local(part)
    found = await copies.journal(part)
    journal = found[0] if found is not None else None
    checked = Checked(part)
    checked.local = canonical(local) if local is not None else None
    checked.journal = canonical(journal) if journal is not None else None
    await _fold_again(copies, checked)
    _compare(checked)
    return checked


async def _fold_again(copies: Copies, checked: Checked) -> None:
    places = sorted({copy.place for copy in _known(checked)})
    if not places:
        checked.no_log = "no position to compare at"
        return
    try:
        refolded = await copies.log(checked.part, places)
    except Unavailable as error:
        checked.no_log = str(error)
        return
    checked.log = {place: canonical(saved) for place, saved in refolded.saved.items()}
    beyond = [place for place in places if place not in checked.log]
    if beyond:
        checked.no_log = f"the log ends before {beyond[0][0]:,}: its topic was created anew"
    if refolded.is_compacted and not _is_confirmed(checked):
        checked.no_log = "the log was compacted: it no longer holds every total as it was at the close"
        checked.log = {}


def _is_confirmed(checked: Checked) -> bool:
    """Whether a compacted log still gives the same states."""
    return all(checked.log.get(copy.place) == copy for copy in _known(checked))


def _known(checked: Checked) -> list[Canonical]:
    return [copy for copy in (checked.local, checked.journal) if copy is not None]


def _compare(checked: Checked) -> None:
    local, journal = checked.local, checked.journal
    pairs = []
    if local is not None and journal is not None and local.place == journal.place:
        pairs.append(("local", local, "journal", journal))
    for name, copy in (("local", local), ("journal", journal)):
        if copy is not None and copy.place in checked.log:
            pairs.append((name, copy, "log", checked.log[copy.place]))
    for one, a, other, b in pairs:
        checked.compared += 1
        if a.digest != b.digest:
            checked.differences += [f"{one} and {other}: {text}" for text in differences(a, b)]
