"""Meters: events with their identifiers, hour windows by receive order, summaries that lag."""

import json
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from billing_sync.stripe_fake.api import Resources
from billing_sync.stripe_fake.errors import ApiError, invalid

IDENTIFIER_SECONDS = 24 * 3_600
PAST_SECONDS, FUTURE_SECONDS = 35 * 86_400, 300
LARGEST_DIGITS, LONGEST_IDENTIFIER, STREAM_EVENTS = 15, 100, 100
SESSION_SECONDS = 15 * 60
WINDOWS = {"hour": 3_600, "day": 86_400}


class Meters(Resources):
    """Meters and what was reported to them; `lag` in seconds until a summary shows an event."""

    lag = 0

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/billing/meters: the event name is taken once among active meters."""
        if any(m["event_name"] == params["event_name"] for m in self._active()):
            raise invalid(f"An active meter with event name {params['event_name']} already exists")
        body = {
            "display_name": params["display_name"],
            "event_name": params["event_name"],
            "event_time_window": params.get("event_time_window"),
            "default_aggregation": params["default_aggregation"],
            "customer_mapping": params.get("customer_mapping")
            or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
            "status": "active",
            "created": self.now,
            "livemode": False,
        }
        return self.state.create("billing.meter", "mtr", body)

    def _active(self) -> list[dict[str, Any]]:
        return [m for m in self.state.all("billing.meter") if m["status"] == "active"]

    def set_status(self, identity: str, status: str) -> dict[str, Any]:
        """POST /v1/billing/meters/ID/deactivate or /reactivate."""
        found = {**self.need(identity, "billing.meter"), "status": status}
        self.state.put(found)
        return found

    def report(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/billing/meter_events: checked at once."""
        at = int(params.get("timestamp", self.now))
        identifier = params.get("identifier") or f"auto_{self.now}_{len(self.state.all('meter_event'))}"
        meter = self._check(params, at, identifier)
        return self._keep(meter, params["payload"], at, identifier)

    def report_v2(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v2/billing/meter_events: times are RFC 3339."""
        return self.report(_v1_shape(params))

    def session(self) -> dict[str, Any]:
        """POST /v2/billing/meter_event_session: a token for the stream, good for 15 minutes."""
        body = {"created": self.now, "expires_at": self.now + SESSION_SECONDS, "livemode": False}
        made = self.state.create("v2.billing.meter_event_session", "mes", body)
        return {**made, "authentication_token": f"token_{made['id']}"}

    def check_session(self, token: str) -> None:
        """Refuse a stream token that is over."""
        session = self.state.get(token.removeprefix("token_"))
        if session is None or session["expires_at"] <= self.now:
            text = "The temporary session token has expired"
            raise ApiError(401, "temporary_session_expired", text, "temporary_session_expired", stored=False)

    def stream(self, params: dict[str, Any], request_key: str) -> dict[str, Any]:
        """POST /v2/billing/meter_event_stream: says nothing; faults come as error reports."""
        if len(params["events"]) > STREAM_EVENTS:
            raise invalid(f"At most {STREAM_EVENTS} events per request", param="events")
        for event in params["events"]:
            try:
                self.report(_v1_shape(event))
            except ApiError as error:
                self._report_error(event, error, request_key)
        return {}

    def _report_error(self, event: dict[str, Any], error: ApiError, key: str) -> None:
        code = error.body["error"].get("code", "meter_event_invalid_value")
        sample = {"error_message": str(error), "request": {"identifier": key}}
        reason = {"error_count": 1, "error_types": [{"code": code, "sample_errors": [sample]}]}
        kind = "no_meter_found" if code == "no_meter" else "error_report_triggered"
        body = {
            "type": f"v1.billing.meter.{kind}",
            "created": self.now,
            "data": {"reason": reason, "event_name": event.get("event_name")},
        }
        self.state.create("v2.core.event", "evt", body)

    def _check(self, params: dict[str, Any], at: int, identifier: str) -> dict[str, Any]:
        if at < self.now - PAST_SECONDS:
            raise invalid("The timestamp is too far in the past", "timestamp_too_far_in_past", "timestamp")
        if at > self.now + FUTURE_SECONDS:
            raise invalid("The timestamp is in the future", "timestamp_in_future", "timestamp")
        if len(identifier) > LONGEST_IDENTIFIER:
            raise invalid("The identifier is longer than 100 characters", param="identifier")
        meter = self._meter_of(params["event_name"])
        self._check_payload(meter, params["payload"])
        seen = self.state.all("meter_event", f"identifier {identifier}")
        if any(event["received"] > self.now - IDENTIFIER_SECONDS for event in seen):
            raise invalid(f"An event already exists with identifier {identifier}.", param="identifier")
        return meter

    def _meter_of(self, event_name: str) -> dict[str, Any]:
        named = [m for m in self.state.all("billing.meter") if m["event_name"] == event_name]
        if not named:
            raise invalid(f"No meter found for event name {event_name}", "no_meter", "event_name")
        if all(m["status"] != "active" for m in named):
            raise invalid(f"The meter for {event_name} is archived", "archived_meter", "event_name")
        return next(m for m in named if m["status"] == "active")

    def _check_payload(self, meter: dict[str, Any], payload: dict[str, str]) -> None:
        customer = payload.get(meter["customer_mapping"]["event_payload_key"], "")
        if not customer:
            raise invalid("The payload names no customer", "meter_event_no_customer_defined", "payload")
        held = self.state.get(customer)
        if held is None or held.get("deleted"):
            raise invalid(f"No such customer: '{customer}'", "meter_event_customer_not_found", "payload")
        text = payload.get(meter["value_settings"]["event_payload_key"], "")
        try:
            value = Decimal(text)
        except InvalidOperation as error:
            raise invalid(f"Invalid value: {text}", "meter_event_invalid_value", "payload") from error
        if len(value.normalize().as_tuple().digits) > LARGEST_DIGITS:
            raise invalid("Too many digits", "meter_event_value_too_many_digits", "payload")

    def _keep(
        self, meter: dict[str, Any], payload: dict[str, str], at: int, identifier: str
    ) -> dict[str, Any]:
        body = {
            "meter": meter["id"],
            "customer": payload[meter["customer_mapping"]["event_payload_key"]],
            "value": payload[meter["value_settings"]["event_payload_key"]],
            "timestamp": at,
            "received": self.now,
        }
        self.state.create("meter_event", "mev", body, parent=f"identifier {identifier}")
        answer = {"event_name": meter["event_name"], "identifier": identifier, "payload": payload}
        return {"object": "billing.meter_event", **answer, "timestamp": at, "created": self.now}

    def cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/billing/meter_event_adjustments: one event, within 24 h of its receipt."""
        identifier = params.get("cancel", {}).get("identifier", "")
        found = self.state.all("meter_event", f"identifier {identifier}")
        fresh = [e for e in found if e["received"] > self.now - IDENTIFIER_SECONDS]
        if not fresh:
            raise invalid(f"No event with identifier {identifier} to cancel", "resource_missing")
        self.state.delete(fresh[0]["id"])
        return {"object": "billing.meter_event_adjustment", "type": "cancel", "status": "pending"}

    def summaries(self, identity: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """GET /v1/billing/meters/ID/event_summaries: what the lag lets one see, by hour or in all."""
        meter = self.need(identity, "billing.meter")
        start, end = int(query["start_time"]), int(query["end_time"])
        window = WINDOWS.get(query.get("value_grouping_window", ""), end - start)
        if start % min(window, 60) or (
            query.get("value_grouping_window") and (start % window or end % window)
        ):
            raise invalid("start_time and end_time must be aligned with the window", param="start_time")
        values: dict[int, float] = {}
        for at, value in self._windowed(meter, query["customer"]):
            if start <= at < end:
                place = start + (at - start) // window * window
                values[place] = values.get(place, 0.0) + value
        return [
            {
                "id": f"mtrusg_{identity}_{place}",
                "object": "billing.meter_event_summary",
                "aggregated_value": value,
                "start_time": place,
                "end_time": place + window,
                "meter": identity,
                "livemode": False,
            }
            for place, value in sorted(values.items(), reverse=True)
        ]

    def _windowed(self, meter: dict[str, Any], customer: str) -> list[tuple[int, float]]:
        """Time and value of the events that count; with a window only the one received last."""
        window = WINDOWS.get(meter["event_time_window"] or "", 0)
        counted: dict[object, tuple[int, float]] = {}
        for event in reversed(self.state.all("meter_event")):
            if (event["meter"], event["customer"]) != (meter["id"], customer):
                continue
            if event["received"] + self.lag <= self.now:
                at = event["timestamp"]
                counted[at // window if window else event["id"]] = (at, float(event["value"]))
        return list(counted.values())


def _v1_shape(params: dict[str, Any]) -> dict[str, Any]:
    """A v2 event with its time as an integer."""
    if "timestamp" not in params:
        return params
    at = int(datetime.fromisoformat(params["timestamp"].replace("Z", "+00:00")).timestamp())
    return {**json.loads(json.dumps(params)), "timestamp": at}
