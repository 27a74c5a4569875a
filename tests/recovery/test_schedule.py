"""Which catalog was in force where, read back from what was written then."""

from metering.records import version
from metering.recovery.evidence import Stage, Stamp, stages_of, stamp_of
from metering.recovery.history import Schedule
from tests.recovery.closes import close

PUBLISHED = [(1_000, 1), (2_000, 2), (3_000, 3)]


def test_a_version_is_taken_apart_as_it_was_put_together() -> None:
    assert stamp_of(str(version(7, 123_456_789_012, 42))) == Stamp(7, 123_456_789_012, 42)


def test_without_evidence_the_time_decides() -> None:
    schedule = Schedule(PUBLISHED)
    assert [schedule.at(0, at) for at in (1_500, 2_000, 2_999, 9_000)] == [1, 2, 2, 3]


def test_the_first_catalog_waits_for_nothing_because_a_worker_waits_for_it() -> None:
    assert Schedule(PUBLISHED).at(0, 10) == 1


def test_what_a_fold_wrote_is_stronger_than_the_time() -> None:
    schedule = Schedule(PUBLISHED)
    schedule.note(10, 1)  # the worker had not read revision 2 yet
    schedule.note(12, 2)
    assert [schedule.at(offset, 2_500) for offset in (9, 10, 11, 12)] == [1, 1, 2, 2]
    assert schedule.at(11, 1_500) == 1
    assert schedule.at(20, 1_500) == 2  # never back


def test_where_a_fold_began_anew_the_later_history_counts() -> None:
    schedule = Schedule(PUBLISHED)
    for offset, revision in ((10, 1), (50, 2), (90, 2)):
        schedule.note(offset, revision)
    for offset in (20, 90):  # folded again from the beginning, under revision 3
        schedule.note(offset, 3)
    assert [schedule.at(offset, 1_500) for offset in (20, 50, 90)] == [3, 3, 3]
    assert schedule.revisions == {1, 3}


def test_stages_are_the_checkpoints_that_closed_periods() -> None:
    closes = [close("a", "2023-11", 50, 2), close("b", "2023-11", 50, 2), close("a", "2023-10", 20, 1)]
    assert stages_of(closes) == [Stage(20, 1, 5), Stage(50, 2, 5)]
