"""What Grafana reads when it starts: data sources, where dashboards are, alerts."""

from pathlib import Path
from typing import Any

import yaml

from dashboards import alerts
from dashboards.query import BOOKS, PLUGIN, PROMETHEUS

IN_GRAFANA = "/etc/grafana/dashboards"  # where the generated folder is mounted

# `$…` are variables of Grafana's own environment; passwords never stand in a file.
DATASOURCES: dict[str, Any] = {
    "apiVersion": 1,
    "prune": True,
    "datasources": [
        {
            "name": "Books",
            "uid": BOOKS.uid,
            "type": PLUGIN,
            "access": "proxy",
            "isDefault": True,
            "editable": False,
            "jsonData": {
                "host": "$METERING_CLICKHOUSE_HOST",
                "port": 9000,
                "protocol": "native",
                "secure": False,
                "username": "$METERING_CLICKHOUSE_READER",
                "defaultDatabase": "$METERING_DATABASE",
                "dialTimeout": "10",
                "queryTimeout": "60",
                "validateSql": True,
            },
            "secureJsonData": {"password": "$METERING_CLICKHOUSE_READER_PASSWORD"},
        },
        {
            "name": "Metrics",
            "uid": PROMETHEUS.uid,
            "type": "prometheus",
            "access": "proxy",
            "editable": False,
            "url": "$METERING_PROMETHEUS_URL",
            "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
        },
    ],
}

PROVIDERS: dict[str, Any] = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "metering",
            "orgId": 1,
            "type": "file",
            "allowUiUpdates": False,
            "disableDeletion": True,
            "updateIntervalSeconds": 30,
            "options": {"path": IN_GRAFANA, "foldersFromFilesStructure": True},
        }
    ],
}

# The reader's rights; the client sets the limit of its time on every query, so that it may change it.
READER = """-- For the data source of Grafana: run as an administrator, once, with a password of your own.
CREATE SETTINGS PROFILE IF NOT EXISTS metering_reader
    SETTINGS readonly = 1, max_execution_time = 60 CHANGEABLE_IN_READONLY, max_memory_usage = 4000000000;
CREATE USER IF NOT EXISTS metering_reader IDENTIFIED BY '{password}' SETTINGS PROFILE metering_reader;
GRANT SELECT ON {database}.* TO metering_reader;
"""


def files(panels: dict[tuple[str, str], int]) -> dict[str, str]:
    """Each file of the provisioning folder, and its text."""
    return {
        "datasources/metering.yaml": _text(DATASOURCES),
        "dashboards/metering.yaml": _text(PROVIDERS),
        "alerting/metering.yaml": _text(alerts.provisioning(panels)),
        "clickhouse-reader.sql": READER,
        "grafana.env": _ENVIRONMENT,
    }


# The first page, and plugins that are there before the provisioning reads the data sources.
_ENVIRONMENT = f"""GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH={IN_GRAFANA}/Home/metering-home.json
GF_PLUGINS_PREINSTALL_DISABLED=true
GF_PLUGINS_PREINSTALL_SYNC={PLUGIN}@4.20.0,prometheus
GF_ANALYTICS_REPORTING_ENABLED=false
GF_USERS_ALLOW_SIGN_UP=false
"""


def _text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1_000)


def write(folder: Path, panels: dict[tuple[str, str], int]) -> list[Path]:
    """Write all of it."""
    written = []
    for name, text in files(panels).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        written.append(file)
    return written
