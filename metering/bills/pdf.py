"""The bill as PDF, A4: the same figures as the page, with fonts of ours and those that a deployment adds."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from fontTools.ttLib import TTFont
from fpdf import FPDF, FontFace
from fpdf.enums import CellBordersLayout, TableBordersLayout
from fpdf.table import Table

from metering.bills import wording
from metering.bills.document import BillDocument
from metering.errors import UserError
from metering.explain import PriceExplanation

_FONTS = Path(str(files("metering.bills") / "fonts"))
_REGULAR, _BOLD = _FONTS / "NotoSans-Regular.ttf", _FONTS / "NotoSans-Bold.ttf"
_MORE = (_FONTS / "DejaVuSans.ttf",)  # Arabic, Hebrew, Armenian, Georgian, symbols
_SOFT, _INK, _ACCENT, _RULE = (90, 97, 112), (22, 24, 29), (11, 107, 93), (217, 220, 227)
_WIDTHS = (62, 38, 26, 18, 36)  # mm; 180 in all
_PLAIN, _INDENTED, _HEAD = (0.4, 1), (0.4, 1, 0.4, 4), (1.6, 1, 0.4, 1)  # mm inside a cell
_RIGHT = ("LEFT", "RIGHT", "RIGHT", "RIGHT", "RIGHT")


def as_pdf(bill: BillDocument, fonts: Sequence[Path] = ()) -> bytes:
    """The document; the same books give the same bytes.

    `fonts` are asked, in order, for characters that ours do not have; what none has is written as its
    code point, e.g. `[U+4E2D]`. UserError when a font cannot be read.
    """
    page = _Page(bill, fonts)
    page.head()
    page.lines()
    page.notes()
    return bytes(page.pdf.output())


@lru_cache(maxsize=32)
def _characters(font: Path) -> frozenset[int]:
    try:
        return frozenset(TTFont(font, fontNumber=0, lazy=True).getBestCmap())
    except Exception as error:  # fontTools raises what it likes
        raise UserError(
            f"{font} is not a font that can be read: {error}", hint="see METERING_PDF_FONTS"
        ) from error


class _Sheet(FPDF):
    """A4 with the page number at the foot."""

    def footer(self) -> None:
        self.set_y(-14)
        self.set_font("bill", size=8)
        self.set_text_color(*_SOFT)
        self.cell(0, 5, f"Page {self.page_no()} of {{nb}}", align="R")


class _Page:
    """One bill on its way to paper."""

    def __init__(self, bill: BillDocument, fonts: Sequence[Path]) -> None:
        self._bill = bill
        fallback = (*_MORE, *fonts)
        self._known = frozenset[int]().union(*map(_characters, (_REGULAR, *fallback)))
        self.pdf = _Sheet(format="A4")
        self.pdf.set_margins(15, 15)
        self.pdf.set_auto_page_break(True, 20)
        self.pdf.add_font("bill", fname=_REGULAR)
        self.pdf.add_font("bill", style="B", fname=_BOLD)
        for number, font in enumerate(fallback):
            self.pdf.add_font(f"more{number}", fname=font)
        self.pdf.set_fallback_fonts([f"more{n}" for n in range(len(fallback))], exact_match=False)
        self.pdf.set_text_shaping(True)
        self.pdf.set_creation_date(bill.state.closed or bill.ends)  # not the clock: equal books, equal bytes
        self.pdf.set_title(self._text(f"Bill of {bill.name}, {bill.period}"))
        self.pdf.set_lang("en")
        self.pdf.add_page()

    def _text(self, text: str) -> str:
        """What the fonts can show of it."""
        seen = wording.shown(text)
        return "".join(
            c if ord(c) in self._known or c in wording.JOINERS else f"[U+{ord(c):04X}]" for c in seen
        )

    def _say(self, text: str, size: float, *, bold: bool = False, color: tuple[int, int, int] = _INK) -> None:
        self.pdf.set_font("bill", style="B" if bold else "", size=size)
        self.pdf.set_text_color(*color)
        self.pdf.multi_cell(0, size * 0.52, self._text(text), new_x="LMARGIN", new_y="NEXT", align="L")

    def head(self) -> None:
        """Who, which period, how much, how final."""
        bill = self._bill
        self._say(f"Bill for {bill.period}", 10, bold=True, color=_ACCENT)
        self._say(bill.name, 20, bold=True)
        self.pdf.ln(2)
        span = f"{wording.instant(bill, bill.starts)} until {wording.instant(bill, bill.ends)}"
        self._say(f"Customer {bill.customer}", 9, color=_SOFT)
        self._say(span, 9, color=_SOFT)
        self._say(wording.status_words(bill), 9, color=_SOFT)
        self.pdf.ln(3)
        self._say(f"{wording.money(bill.total)} {bill.currency}", 15, bold=True)
        for one in bill.missing:
            used = f"{wording.quantity(one.quantity)} {one.meter}, hours: {one.hours}"
            self._say(f"Not complete, no price covers {used}: {one.reason}, {one.detail}", 9, bold=True)
        self.pdf.ln(4)

    def lines(self) -> None:
        """The table: every price with its cards, slices, effects and rounding."""
        self.pdf.set_font("bill", size=8.5)
        self.pdf.set_draw_color(*_RULE)
        self.pdf.set_text_color(*_SOFT)
        heading = FontFace(emphasis="", color=_SOFT)
        with self.pdf.table(
            width=sum(_WIDTHS),
            col_widths=_WIDTHS,
            text_align=_RIGHT,
            headings_style=heading,
            line_height=4.6,
            borders_layout=TableBordersLayout.NONE,
            padding=_PLAIN,
        ) as table:
            self._row(table, "Line", "Units", "Unit price", "Fee", f"Amount ({self._bill.currency})")
            for found in self._bill.charges:
                self._price(table, found)
            if self._bill.adjustments:
                self._wide(table, "Adjustments of closed periods", "", bold=True)
            for found in self._bill.adjustments:
                self._price(table, found)
            self._wide(table, "Total", wording.money(self._bill.total), bold=True)

    def _price(self, table: Table, found: PriceExplanation) -> None:
        corrects = f", corrects {found.corrects}" if found.corrects else ""
        title = f"{found.price}: {wording.headline(found)}{corrects}".removesuffix(": ")
        self._wide(table, title, wording.money(found.amount), bold=True)
        for card, version, since, parts in wording.cards(found):
            self._wide(table, f"card {card}, {version[:6]}, since {wording.instant(self._bill, since)}", "")
            for part in parts:
                self._row(table, *wording.part_columns(part))
        for effect in found.effects:
            self._wide(table, wording.effect_words(effect.name), wording.exact(effect.amount))
        if found.rounding:
            self._wide(table, "rounding to six decimals", wording.exact(found.rounding))

    def _row(self, table: Table, *cells: str) -> None:
        row = table.row()
        for number, cell in enumerate(cells):
            row.cell(self._text(cell), padding=_INDENTED if number == 0 and cells[0] != "Line" else _PLAIN)

    def _wide(self, table: Table, title: str, amount: str, *, bold: bool = False) -> None:
        row = table.row(style=FontFace(emphasis="B" if bold else "", color=_INK if bold else _SOFT))
        border = CellBordersLayout.TOP if bold else CellBordersLayout.NONE
        row.cell(self._text(title), colspan=4, border=border, padding=_HEAD if bold else _INDENTED)
        row.cell(self._text(amount), border=border, padding=_HEAD if bold else _PLAIN)

    def notes(self) -> None:
        """What was restated and corrected, and how to tell these books from others."""
        bill = self._bill
        said = [("Restatements", bill.restated), ("Usage that was corrected", bill.corrected)]
        for title, sentences in said:
            if sentences:
                self.pdf.ln(5)
                self._say(title, 10, bold=True)
            for sentence in sentences:
                self._say(sentence, 8.5)
        self.pdf.ln(5)
        adds_up = (
            f"The lines add up to the total exactly, in millionths of {bill.currency}; an invoice rounds"
        )
        self._say(f"{adds_up} once and carries the remainder.", 8, color=_SOFT)
        if bill.state.digest:
            self._say(f"Digest {bill.state.digest}", 8, color=_SOFT)
