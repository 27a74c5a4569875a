"""The compose file without an engine: its schema, and that everything in it is what the code knows."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import yaml
from jsonschema import Draft7Validator
from pydantic_settings import BaseSettings

from metering.invariants.commands import PORT as WATCH_PORT
from metering.local import kafka
from metering.notify.config import NotifyConfig, load_config
from metering.quotad.settings import QuotadSettings
from metering.settings import Settings
from tests.deploy.compose import (
    COMPOSE,
    ONE_SHOT,
    OURS,
    ROOT,
    SERVICES,
    STAYING,
    commands,
    optional,
    required,
    undecided,
)
from tests.walk import find_command

SCHEMA = json.loads((Path(__file__).parent / "compose-spec" / "compose-spec.json").read_text())
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY")


def each(names: list[str]) -> Any:
    return pytest.mark.parametrize("name", names)


def mistakes(compose: dict[str, Any]) -> list[str]:
    return [f"{e.json_path}: {e.message}" for e in Draft7Validator(SCHEMA).iter_errors(compose)]


def test_it_is_what_the_compose_specification_says() -> None:
    assert not mistakes(COMPOSE)


def test_a_misspelt_key_is_no_compose_file() -> None:
    assert mistakes({"services": {"a": {"image": "a", "heathcheck": {}}}})


# -- secrets and variables --------------------------------------------------------------------


def test_the_example_names_each_required_variable_and_gives_none_a_value() -> None:
    lines = [x for x in (ROOT / ".env.example").read_text().splitlines() if x and x[0] != "#"]
    assert {line.rstrip("=") for line in lines} == required()


def test_no_variable_is_silently_empty() -> None:
    assert not undecided()


@each(sorted(SERVICES))
def test_a_secret_is_asked_for_or_empty(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    for variable, value in environment.items():
        if SECRET.search(variable) and not variable.endswith("__FILE"):
            assert value in {*required(), "", None}, variable


def test_the_password_of_an_address_is_asked_for() -> None:
    assert urlsplit(COMPOSE["x-settings"]["CLICKHOUSE_URL"]).password in required()


def known_variables() -> set[str]:
    """What our processes read: every settings class, and what is asked of the environment itself."""
    known: set[str] = set()
    for model in BaseSettings.__subclasses__():
        prefix = model.model_config.get("env_prefix", "")
        for field, info in model.model_fields.items():
            known.add(str(info.validation_alias or f"{prefix}{field}".upper()))
    for package in ("metering", "billing_sync"):
        for file in (ROOT / package).rglob("*.py"):
            known |= set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', file.read_text()))
    return known


@each(sorted(OURS))
def test_every_variable_is_one_that_our_processes_read(name: str) -> None:
    assert not OURS[name]["environment"].keys() - known_variables()


def test_a_misspelt_variable_would_be_seen() -> None:
    assert "METERING_PARTITION" not in known_variables()
    assert "METERING_PARTITIONS" in known_variables()


def test_defaults_are_those_of_the_settings() -> None:
    for variable, default in optional().items():
        field = Settings.model_fields.get(variable.removeprefix("METERING_").lower())
        if field is not None:
            assert str(field.default) == default


# -- processes --------------------------------------------------------------------------------


@each(sorted(OURS))
def test_every_command_is_one_of_ours(name: str) -> None:
    for words in commands(OURS[name]):
        find_command(words)


def test_a_command_that_does_not_exist_would_be_seen() -> None:
    with pytest.raises(ValueError, match="workr"):
        find_command(["metering", "workr"])


@each(STAYING)
def test_what_stays_comes_back(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"


# It listens nowhere; when it cannot go on, it ends and is started again.
SILENT = {"notify"}


@each(sorted(set(STAYING) - SILENT))
def test_what_listens_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@each(sorted(SERVICES))
def test_every_service_has_limits(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory"}


@each(sorted(SERVICES))
def test_images_are_pinned_to_a_whole_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", SERVICES[name]["image"])


def test_kafka_is_the_version_that_the_tests_run_on() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka.VERSION}"


@each(sorted(SERVICES))
def test_ports_are_published_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


# Where each process listens, as the code says; the paths are those that it serves.
LISTENING = {
    **dict.fromkeys(["worker-1", "worker-2", "sink"], (9465, "/health/live")),
    "watch": (WATCH_PORT, ""),
    "billing-sync": (9465, ""),
    "web": (int(Settings.model_fields["web_port"].default), "/favicon.ico"),
    "webhooks": (8091, ""),
    "quotad": (int(QuotadSettings.model_fields["port"].default), "/health/live"),
}


@each(sorted(LISTENING))
def test_a_health_check_asks_where_the_process_listens(name: str) -> None:
    port, path = LISTENING[name]
    service = SERVICES[name]
    asked = " ".join(service["healthcheck"]["test"])
    assert f":{port}{path}'" in asked or f"'127.0.0.1', {port})" in asked
    assert all(published.endswith(f":{port}") for published in service.get("ports", []))
    words = service["command"]
    assert "--port" not in words or words[words.index("--port") + 1] == str(port)


@each(sorted(OURS))
def test_our_processes_have_no_rights(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@each(sorted(SERVICES))
def test_a_service_waits_for_what_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert how["condition"] == wanted, other


# -- files and volumes ------------------------------------------------------------------------


def mounts() -> list[tuple[str, str, str]]:
    found = []
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            found.append((source, target, *(mode or [""])))
    return found


def test_every_volume_is_named_and_used() -> None:
    assert {source for source, *_ in mounts() if source[0] != "."} == COMPOSE["volumes"].keys()


def test_what_is_mounted_from_here_is_here_and_cannot_be_written() -> None:
    for source, _, mode in mounts():
        if source[0] == ".":
            assert (ROOT / source).exists(), source
            assert mode == "ro"


def test_the_state_is_on_a_volume_of_its_own() -> None:
    homes = [v.split(":") for s in OURS.values() for v in s.get("volumes", [])]
    states = [source for source, target, *_ in homes if target == COMPOSE["x-settings"]["METERING_HOME"]]
    workers = [name for name in OURS if name.startswith("worker")]
    assert len([s for s in states if s.startswith("worker")]) == len(workers) == len(set(workers))


def test_the_database_user_of_dashboards_can_only_read_the_books() -> None:
    found = ET.parse(ROOT / "deploy" / "clickhouse" / "reader.xml")
    assert found.findtext("profiles/metering_reader/readonly") == "1"
    assert found.findtext("users/metering_reader/profile") == "metering_reader"
    assert [g.text for g in found.iter("query")] == ["GRANT SELECT ON metering.*"]
    password = found.find("users/metering_reader/password")
    assert password is not None
    assert password.get("from_env") in SERVICES["clickhouse"]["environment"]
    assert Settings.model_fields["database"].default == "metering"


def test_the_file_of_notifications_is_mounted_where_it_is_read_and_can_be_read() -> None:
    place = Path(OURS["notify"]["environment"]["METERING_NOTIFY_FILE"])
    sources = {target: source for source, target, _ in mounts()}
    config, _ = load_config(ROOT / sources[str(place.parent)] / place.name)
    assert config.targets() == ()


def test_the_examples_in_the_file_of_notifications_are_valid() -> None:
    text = (ROOT / "deploy" / "notify" / "notify.yaml").read_text()
    shown = text.replace("webhooks: []\n# -", "webhooks:\n -").replace("emails: []\n# -", "emails:\n -")
    config = NotifyConfig.model_validate(yaml.safe_load(shown.replace("\n# smtp", "\nsmtp")))
    assert [target.id for target in config.targets()] == ["ops", "finance"]
    assert config.smtp is not None


def test_all_yaml_of_the_deployment_can_be_read() -> None:
    for file in (ROOT / "deploy").rglob("*.y*ml"):
        assert yaml.safe_load(file.read_text()), file


# -- dashboards -------------------------------------------------------------------------------


def test_prometheus_asks_where_the_processes_answer() -> None:
    jobs = yaml.safe_load((ROOT / "dashboards" / "prometheus" / "prometheus.yml").read_text())
    asked = {
        (name, found["port"])
        for job in jobs["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    aliases = SERVICES["worker-1"]["networks"]["default"]["aliases"]
    port = int(COMPOSE["x-observed"]["METERING_METRICS_PORT"])
    ours = {("sink", port), ("billing-sync", port), ("watch", WATCH_PORT), ("quotad", LISTENING["quotad"][0])}
    assert asked == {*((alias, port) for alias in aliases), *ours}
    assert SERVICES["worker-1"]["networks"] == SERVICES["worker-2"]["networks"]


def test_grafana_has_every_variable_that_its_provisioning_reads() -> None:
    text = "".join(f.read_text() for f in (ROOT / "dashboards" / "provisioning").rglob("*.yaml"))
    read = set(re.findall(r"\$(METERING_\w+)", text))
    assert read
    assert not read - SERVICES["grafana"]["environment"].keys()


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    (provider,) = yaml.safe_load(
        (ROOT / "dashboards" / "provisioning" / "dashboards" / "metering.yaml").read_text()
    )["providers"]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
    assert "/etc/grafana/provisioning" in targets
    home = (ROOT / SERVICES["grafana"]["env_file"]).read_text()
    (page,) = re.findall(r"HOME_DASHBOARD_PATH=(\S+)", home)
    place = page.replace(provider["options"]["path"], "dashboards/generated")
    assert (ROOT / place).exists()


def test_grafanas_user_is_the_one_that_can_only_read() -> None:
    found = ET.parse(ROOT / "deploy" / "clickhouse" / "reader.xml")
    assert [user.tag for user in found.find("users") or []] == [
        SERVICES["grafana"]["environment"]["METERING_CLICKHOUSE_READER"]
    ]
