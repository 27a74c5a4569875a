"""Limits as the folds use them: customer > contract > plan, by id and field, as a timeline."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from metering.catalog.limit_files import GrantFile, LimitFile, PoolFile, percent_of_text, seconds_of
from metering.catalog.models import CatalogFile, CustomerFile, MeterFile
from metering.quota.grants import Grant
from metering.quota.limits import ONE, Counts, Limit, Timeline
from metering.quota.windows import Window, WindowKind
from metering.rating.money import MICRO, parse_decimal

_DECIDES = {"plan", "plans", "contract", "limits", "zone", "billing_day"}
_AMOUNTS = ("units", "money", "requests")
_KINDS: dict[str, WindowKind] = {k: k for k in ("hour", "day", "month", "period")}


class NoLimit(ValueError):
    """A limit that cannot be resolved; the message says what to write."""


def laid_over(below: Iterable[LimitFile], above: Iterable[LimitFile]) -> dict[str, LimitFile]:
    """Limits by id, with the fields of those above in place of those below."""
    found = {limit.id: limit for limit in below}
    for limit in above:
        fields = limit.model_dump(exclude_defaults=True)
        under = found[limit.id].model_dump(exclude_defaults=True) if limit.id in found else {}
        if any(name in fields for name in _AMOUNTS):
            under = {name: value for name, value in under.items() if name not in _AMOUNTS}
        if fields.get("kind", "grace") != "grace":
            under.pop("grace", None)
        found[limit.id] = LimitFile.model_validate({**under, **fields})
    return found


def limit_of(
    file: LimitFile, meters: Mapping[str, MeterFile], zone: str, anchor: int, *, shared: bool
) -> Limit:
    """A complete limit; NoLimit says what it lacks."""
    for name in ("meter", "window"):
        if getattr(file, name) is None:
            raise NoLimit(f"limit `{file.id}` has no `{name}`, and no level below defines the limit")
    assert file.meter is not None
    assert file.window is not None
    meter = meters.get(file.meter)
    if meter is None:
        raise NoLimit(f"limit `{file.id}`: no meter `{file.meter}`")
    kind = file.kind or "hard"
    if (kind == "grace") != (file.grace is not None):
        raise NoLimit(f"limit `{file.id}`: kind: grace goes with `grace`, e.g. grace: 10% or grace: 24h")
    counts, amount = _amount(file)
    return Limit(
        id=file.id,
        meter=file.meter,
        counts=counts,
        amount=amount,
        window=_window(file.window, zone, anchor),
        kind=kind,
        where=tuple((name, frozenset(values)) for name, values in sorted(file.where.items())),
        thresholds=(50, 80, 100) if file.thresholds is None else file.thresholds,
        grace_percent=percent_of_text(file.grace or "") or 0,
        grace_ms=(seconds_of(file.grace or "") or 0) * 1_000,
        when_stale=file.when_stale or ("deny" if kind == "hard" else "allow"),
        reuse_ms=(seconds_of(file.reuse_last or "60s") or 0) * 1_000,
        shared=shared,
        step=ONE // 10**meter.scale,
    )


def _amount(file: LimitFile) -> tuple[Counts, int | None]:
    names: tuple[Counts, ...] = ("units", "money", "requests")
    for counts in names:
        text = getattr(file, counts)
        if text is not None:
            value = parse_decimal(text, MICRO)
            return counts, None if value < 0 else value
    return "units", None


def _window(text: str, zone: str, anchor: int) -> Window:
    kind, _, length = text.partition(" ")
    if kind == "rolling":
        return Window("rolling", length_ms=(seconds_of(length) or 0) * 1_000)
    # What does not depend on the billing day is the same window for all.
    return Window(_KINDS[kind], zone, anchor if kind == "period" else 1)


class Limits:
    """The limits and grants of a catalog; customers with the same ones share a timeline."""

    def __init__(self, content: CatalogFile) -> None:
        self._meters = {meter.id: meter for meter in content.meters}
        self._plans = {plan.id: plan for plan in content.plans}
        self._contracts = {contract.id: contract for contract in content.contracts}
        self._made: dict[str, Timeline] = {}

    def of(self, customer: CustomerFile) -> Timeline:
        """The limits of a customer by itself; NoLimit when one is not complete."""
        place = customer.model_dump_json(include=_DECIDES)
        if place not in self._made:
            self._made[place] = self._timeline(customer)
        return self._made[place]

    def _timeline(self, customer: CustomerFile) -> Timeline:
        contract = self._contracts.get(customer.contract or "")
        negotiated = contract.limits if contract is not None else ()
        starts: list[int] = []  # the first stretch reaches back as far as usage does
        limits: list[tuple[Limit, ...]] = []
        for phase in customer.phases:
            base = laid_over(self._plans[phase.plan].limits, negotiated)
            files = laid_over(base.values(), customer.limits)
            found = self._resolve(files.values(), customer.zone, customer.billing_day, shared=False)
            if not limits or limits[-1] != found:
                starts.append(_ms(phase.starts))
                limits.append(found)
        return Timeline(tuple(starts), tuple(limits)) if any(limits) else NO_LIMITS

    def of_pool(self, pool: PoolFile) -> Timeline:
        """The limits that a pool's members share."""
        found = self._resolve(pool.limits, pool.zone, pool.billing_day, shared=True)
        return Timeline((0,), (found,)) if found else NO_LIMITS

    def _resolve(
        self, files: Iterable[LimitFile], zone: str, anchor: int, *, shared: bool
    ) -> tuple[Limit, ...]:
        ordered = sorted(files, key=lambda file: file.id)
        return tuple(limit_of(file, self._meters, zone, anchor, shared=shared) for file in ordered)


NO_LIMITS = Timeline((), ())


def grant_of(file: GrantFile) -> Grant:
    """A grant as the folds use it."""
    ends = None if file.ends is None else _ms(file.ends)
    amount = parse_decimal(file.amount, MICRO)
    return Grant(file.id, file.scope, file.limit, amount, _ms(file.starts), ends, "catalog", file.reason)


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000)
