"""quotad in front of a running pipeline: its answers, its health, its logs, its end."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from metering.demo.pipeline import Pipeline
from metering.local import process
from metering.settings import Settings
from tests.demo.world import send
from tests.quotad.world import Reply, Service, quotad, until
from tests.state.folding import event

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]


def reserve(service: Service, customer: str, quantity: object, **more: object) -> Any:
    return service.ask("/v1/reserve", customer=customer, meter="tokens", quantity=quantity, **more)


def check(service: Service, customer: str, quantity: object = 1) -> Any:
    return service.ask("/v1/check", customer=customer, meter="tokens", quantity=quantity)


def test_a_check_far_from_the_limit_is_allowed(service: Service) -> None:
    assert check(service, "customer-c", "10.5") == {
        "allowed": True,
        "reason": "ok",
        "limit": "",
        "lease": "",
        "retry_after_ms": 0,
    }


def test_a_denial_is_an_answer(service: Service) -> None:
    answer = check(service, "customer-c", 1001)
    assert (answer["allowed"], answer["reason"], answer["limit"]) == (False, "limit_reached", "l")


def test_what_is_no_quantity_is_an_answer(service: Service) -> None:
    assert check(service, "customer-c", "many")["reason"] == "bad_quantity"
    assert reserve(service, "customer-c", -1)["reason"] == "bad_quantity"


def test_a_lease_is_reserved_committed_and_released(service: Service) -> None:
    held = reserve(service, "customer-d", "900.5", request_id="42")
    assert (held["ok"], held["reason"], held["granted"]) == (True, "granted", "900.5")
    assert reserve(service, "customer-d", 200)["reason"] == "reserved_by_others"
    lease = {"customer": "customer-d", "lease": held["lease"]}
    assert service.ask("/v1/commit", **lease, used="0.5", request_id="42")["reason"] == "committed"
    assert service.ask("/v1/release", **lease)["reason"] == "lease_ended"
    assert service.ask("/v1/release", customer="customer-d", lease="none")["reason"] == "unknown_lease"


def test_a_repeated_request_gets_its_reply_again_also_from_another_quotad(
    service: Service, deployed: tuple[Settings, Pipeline]
) -> None:
    first = reserve(service, "customer-e", 800, request_id="once")
    assert reserve(service, "customer-e", 800, request_id="once") == first
    with quotad(deployed[0]) as other:
        until(lambda: other.status() == "ready")
        assert reserve(other, "customer-e", 800, request_id="once") == first
        assert reserve(other, "customer-e", 800)["reason"] == "reserved_by_others"


def test_the_same_id_of_another_customer_is_another_request(service: Service) -> None:
    first = reserve(service, "customer-f", 10, request_id="once")
    assert first["lease"] != reserve(service, "customer-g", 10, request_id="once")["lease"]


def test_a_batch_near_the_limit_shares_a_reservation(
    service: Service, deployed: tuple[Settings, Pipeline]
) -> None:
    send(deployed[0], event(1, "customer-h", time=time.time_ns() // 1_000_000, n=900), key=b"customer-h")
    until(lambda: bool(check(service, "customer-h", 2)["lease"]))  # once nothing may be on its way
    near = {"customer": "customer-h", "meter": "tokens", "quantity": 2}
    checks = [near, {**near, "customer": "customer-c"}, {**near, "quantity": 101}, near]
    first, far, beyond, last = service.ask("/v1/check/batch", checks=checks)["answers"]
    assert first["lease"] == last["lease"] != ""
    assert (far["reason"], far["lease"]) == ("ok", "")
    assert (beyond["allowed"], beyond["reason"]) == (False, "limit_reached")


def test_numbers_are_seen_without_customers(service: Service) -> None:
    text = service.get("/metrics").text
    assert 'metering_quotad_answers_total{operation="check",reason="ok"}' in text
    assert 'metering_quotad_status{status="ready"} 1.0' in text
    assert "customer" not in text
    assert "tokens" not in text


def test_a_log_line_names_no_customer_and_no_token(service: Service) -> None:
    check(service, "customer-c")
    service.post("/v1/check", {"customer": "customer-c", "meter": 7}, token="wrong")
    lines = service.log.read_text()
    assert '"operation": "check"' in lines
    assert "customer-" not in lines
    assert "wrong" not in lines
    assert "open sesame" not in lines


def test_without_a_worker_it_is_degraded_says_stale_and_ends_in_grace(
    service: Service, deployed: tuple[Settings, Pipeline]
) -> None:
    pipeline = deployed[1]
    pipeline.stop()
    until(lambda: service.status() == "degraded")
    ready = service.get("/health/ready")
    assert (ready.status, ready.body["status"]) == (200, "degraded")
    assert ready.body["silent_ms"] > 3_000
    until(lambda: check(service, "customer-c")["reason"] == "stale")
    assert check(service, "customer-c") == {
        "allowed": False,
        "reason": "stale",
        "limit": "l",
        "lease": "",
        "retry_after_ms": 0,
    }
    assert reserve(service, "customer-c", 1)["reason"] == "no_data"
    replies: list[Reply] = []
    body = {"customer": "customer-c", "meter": "tokens", "quantity": 1}
    under_way = threading.Thread(target=lambda: replies.append(service.post("/v1/reserve", body)))
    under_way.start()
    time.sleep(1)
    running = process.find(service.pid_file)
    assert running is not None
    os.kill(running.pid, signal.SIGTERM)
    under_way.join(timeout=30)
    assert [reply.body["reason"] for reply in replies] == ["no_data"]
    until(lambda: not running.is_alive())
    assert '"event": "stopping"' in service.log.read_text()
