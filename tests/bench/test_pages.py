"""The pages on performance and scaling are what the committed results say."""

from bench import page, scaling

FILES = sorted(page.RESULTS.glob("*.json"))


def test_there_are_results() -> None:
    assert FILES


def test_the_page_on_performance_is_made_of_the_results() -> None:
    made = page.made_of(FILES)
    assert (page.ROOT / "docs" / "performance.md").read_text() == made.text
    assert {name: (page.RESULTS / f"{name}.svg").read_text() for name in made.plots} == made.plots


def test_the_page_on_scaling_is_made_of_the_results() -> None:
    assert (page.ROOT / "docs" / "scaling.md").read_text() == scaling.made_of(FILES)


def test_no_committed_result_lost_an_event_or_counted_one_twice() -> None:
    assert not [f.row for file in FILES for f in page.read(file)[1] if f.lost or f.doubled]
