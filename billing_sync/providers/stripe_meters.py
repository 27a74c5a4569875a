"""Stripe's meters behind the port: an hour's total is set, and read back exactly."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe

from billing_sync.port import CustomerMissing, HeldHour, Rejected, StreamedHour
from billing_sync.providers.stripe_errors import ask
from billing_sync.providers.stripe_invoices import StripeConnection

_DUPLICATE = "already exists with identifier"  # Stripe gives no code for it
_NO_CUSTOMER = ("meter_event_customer_not_found", "meter_event_no_customer_defined")
_PAGE = 100


class _SessionOver(Exception):
    """The stream's token has expired: the next one is asked for."""


class StripeMeters:
    """Meters with an hour window, where the last total of an hour counts."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection
        self._meters: dict[str, Any] = {}
        self._token = ""

    def meter(self, event_name: str) -> Any:
        """The active meter of an event name, checked: formula sum, window hour."""
        if event_name not in self._meters:
            self._read_meters()
        found = self._meters.get(event_name)
        if found is None:
            raise Rejected(f"Stripe has no active meter with the event name {event_name}", "meter_missing")
        if found.event_time_window != "hour" or found.default_aggregation.formula != "sum":
            raise Rejected(
                f"the meter {event_name} must have the formula sum and the window hour: with another"
                " one a total that is sent twice would count twice",
                "meter_window",
            )
        return found

    def _read_meters(self) -> None:
        client = self._connection.v1.billing.meters
        query: Any = {"limit": _PAGE}
        while True:
            page: Any = ask(lambda: client.list(query))
            self._meters |= {m.event_name: m for m in page.data if m.status == "active"}
            if not page.has_more:
                return
            query["starting_after"] = page.data[-1].id

    def set_hour(
        self, external_customer: str, event_name: str, hour: int, value: str, identifier: str, key: str
    ) -> None:
        """Set an hour's total; an identifier that Stripe has seen means that it is set."""
        meter = self.meter(event_name)
        params: Any = {
            "event_name": event_name,
            "identifier": identifier,
            "timestamp": hour,
            "payload": {
                meter.customer_mapping.event_payload_key: external_customer,
                meter.value_settings.event_payload_key: value,
            },
        }
        client = self._connection.v1.billing.meter_events
        try:
            ask(lambda: client.create(params, {"idempotency_key": key}))
        except Rejected as error:
            if _DUPLICATE in str(error):
                return
            if error.code in _NO_CUSTOMER:
                raise CustomerMissing(str(error), error.code) from error
            raise

    def stream_hours(self, events: Sequence[StreamedHour], key: str) -> None:
        """Set many hours over the v2 stream; its session is renewed when it is over."""
        params: Any = {"events": [self._event(event) for event in events]}
        try:
            self._stream(params, key)
        except _SessionOver:
            self._token = ""
            self._stream(params, key)

    def _stream(self, params: Any, key: str) -> None:
        v2 = self._connection.sdk.v2.billing
        if not self._token:
            self._token = ask(v2.meter_event_session.create).authentication_token
        options: Any = {"api_key": self._token, "idempotency_key": key}

        def call() -> None:
            try:
                v2.meter_event_stream.create(params, options)
            except stripe.TemporarySessionExpiredError as error:
                raise _SessionOver from error

        ask(call)

    def _event(self, event: StreamedHour) -> dict[str, Any]:
        meter = self.meter(event.event_name)
        return {
            "event_name": event.event_name,
            "identifier": event.identifier,
            "timestamp": datetime.fromtimestamp(event.hour, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "payload": {
                meter.customer_mapping.event_payload_key: event.account,
                meter.value_settings.event_payload_key: event.value,
            },
        }

    def held_hours(self, external_customer: str, event_name: str, start: int, end: int) -> Iterable[HeldHour]:
        """The meter's hours, from the raw answer: a float would lose digits."""
        path = f"/v1/billing/meters/{self.meter(event_name).id}/event_summaries"
        query: dict[str, Any] = {
            "customer": external_customer,
            "start_time": start,
            "end_time": end,
            "value_grouping_window": "hour",
            "limit": _PAGE,
        }
        while True:
            answer = ask(lambda: self._connection.sdk.raw_request("get", path, **query))
            page = json.loads(answer.body, parse_float=Decimal)
            for summary in page["data"]:
                yield HeldHour(int(summary["start_time"]), Decimal(summary["aggregated_value"]))
            if not page["has_more"]:
                return
            query["starting_after"] = page["data"][-1]["id"]
