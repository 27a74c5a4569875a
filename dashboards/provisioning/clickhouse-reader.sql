-- For the data source of Grafana: run as an administrator, once, with a password of your own.
CREATE SETTINGS PROFILE IF NOT EXISTS metering_reader
    SETTINGS readonly = 1, max_execution_time = 60 CHANGEABLE_IN_READONLY, max_memory_usage = 4000000000;
CREATE USER IF NOT EXISTS metering_reader IDENTIFIED BY '{password}' SETTINGS PROFILE metering_reader;
GRANT SELECT ON {database}.* TO metering_reader;
