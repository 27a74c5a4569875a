"""Pipeline: rate, lag, watermark, checkpoints, the sink and what must always hold; from Prometheus."""

from dashboards.boards import services
from dashboards.layout import GREEN, RED, YELLOW, Board, Panel, curves, figure
from dashboards.query import promql, quantile


def board() -> Board:
    """What operators look at."""
    return Board(
        uid="metering-pipeline",
        title="Pipeline",
        folder="Operations",
        about="Worker and sink as Prometheus sees them. No customer here: that is what the other dashboards are for.",
        rows=[
            _figures(),
            _flow(),
            _time(),
            _moves(),
            _work(),
            _sink(),
            _outcomes(),
            services.watch(),
            services.quotad(),
        ],
        since="now-6h",
        refresh="30s",
    )


def _figures() -> list[Panel]:
    return [
        figure(
            "Processes",
            promql("count(metering_build_info)", instant=True),
            "Workers and sinks that answer.",
            "fewer than you started: read the last line of the log of the one that ended, exit code 70 says why.",
            steps=((None, RED), (2, GREEN)),
            width=4,
        ),
        figure(
            "Events a second",
            promql("metering:events:rate5m", instant=True),
            "Usage events read, over five minutes.",
            "zero while applications send: look at the lag.",
            width=4,
        ),
        figure(
            "Records behind",
            promql('sum(metering_lag_records{topic="usage.events"})', instant=True),
            "Usage events in Kafka that are not durable in a fold yet.",
            "it grows for minutes: start another worker, up to the number of partitions.",
            steps=((None, GREEN), (100_000, YELLOW), (1_000_000, RED)),
            width=4,
        ),
        figure(
            "Watermark behind",
            promql("metering:watermark:age_seconds", instant=True),
            "How far the lowest watermark is behind the clock. A quiet partition is brought on by a tick.",
            "more than minutes: `metering status` names the partition that holds it back.",
            unit="s",
            steps=((None, GREEN), (300, YELLOW), (3_600, RED)),
            width=4,
        ),
        figure(
            "Oldest unstored row",
            promql(
                "time() - min(metering_sink_oldest_unstored_timestamp_seconds > 0) or vector(0)", instant=True
            ),
            "Age of the oldest row that ClickHouse does not have.",
            "ClickHouse is away or slow; Kafka keeps the rows.",
            unit="s",
            steps=((None, GREEN), (60, YELLOW), (600, RED)),
            width=4,
        ),
        figure(
            "Broken invariants",
            promql("count(metering_invariant_holds == 0) or vector(0)", instant=True),
            "Things that must always hold and do not, as `metering watch` found them.",
            "do not bill; the page on invariants says what to do for each.",
            steps=((None, GREEN), (1, RED)),
            width=4,
        ),
    ]


def _flow() -> list[Panel]:
    return [
        curves(
            "Events by outcome",
            [promql("sum by (outcome) (rate(metering_events_total[$__rate_interval]))", "{{outcome}}")],
            "Events a second; accepted, duplicates and refused ones are all that was read.",
            "many refused: open *Data quality*.",
            unit="eps",
            bars=True,
            width=8,
        ),
        curves(
            "Lag by topic",
            [promql("sum by (topic) (metering_lag_records)", "{{topic}}")],
            "Records between the durable position and the end of the log that the last fetch saw.",
            "only the sink's topics grow: ClickHouse is the bottleneck.",
            width=8,
        ),
        curves(
            "Read and not accounted for",
            [promql("sum by (partition) (metering:events_unaccounted)", "{{partition}}")],
            "Events read less accepted, duplicate and refused ones, by partition: zero, always.",
            "not zero: stop billing sync, then `metering state verify`.",
            width=8,
        ),
    ]


def _time() -> list[Panel]:
    return [
        curves(
            "Watermark age by partition",
            [promql("time() - (metering_watermark_timestamp_seconds > 0)", "{{partition}}")],
            "How far event time is behind the clock in each partition.",
            "a straight climb of one partition: nobody owns it, start a worker.",
            unit="s",
        ),
        curves(
            "Since the last usage by partition",
            [promql("time() - (metering_last_usage_timestamp_seconds > 0)", "{{partition}}")],
            "How long ago the newest usage of a partition was appended, since its worker owns it.",
            "all climb: applications do not send; one climbs: its customers are quiet, or a sender is away.",
            unit="s",
        ),
    ]


def _moves() -> list[Panel]:
    return [
        curves(
            "Rebalances",
            [promql("increase(metering_rebalances_total[$__rate_interval])", "{{instance}}")],
            "How often partitions moved, by process.",
            "more than a few a day: processes die, or stand still for longer than the session timeout.",
            width=8,
            bars=True,
        ),
        curves(
            "Time of a rebalance",
            [promql(quantile("0.99", "metering_rebalance_seconds"), "99 %")],
            "From the beginning of a rebalance until its partitions were assigned.",
            "above the session timeout: a process that should take part stands still.",
            width=8,
            unit="s",
        ),
        curves(
            "Late events",
            [
                promql(
                    "sum by (partition) (rate(metering_events_late_total[$__rate_interval]))", "{{partition}}"
                )
            ],
            "Accepted events behind the watermark, a second. They count.",
            "many: a sender buffers too long; *Data quality* says which meters.",
            width=8,
            unit="eps",
        ),
    ]


def _work() -> list[Panel]:
    return [
        curves(
            "Checkpoint",
            [
                promql(quantile("0.5", "metering_checkpoint_seconds"), "half", ref="A"),
                promql(quantile("0.99", "metering_checkpoint_seconds"), "99 %", ref="B"),
                promql(quantile("0.99", "metering_commit_seconds"), "commit, 99 %", ref="C"),
            ],
            "Time to make a partition's changes durable: disk, journal, results. A commit to the group is a measure of the"
            " broker alone: nothing depends on it.",
            "above seconds: the disk or the broker is slow; nothing is lost, restarts take longer.",
            width=8,
            unit="s",
        ),
        curves(
            "Handling a batch",
            [promql(quantile("0.99", "metering_handle_seconds", "topic"), "{{topic}}")],
            "99 % of batches of a topic were handled within this time.",
            "compare it with the batches a second: large batches take longer.",
            width=8,
            unit="s",
        ),
        curves(
            "Batches by topic",
            [promql("sum by (topic) (rate(metering_batches_read_total[$__rate_interval]))", "{{topic}}")],
            "Batches a second that agents were given; a batch is one fetch of a partition.",
            "many small ones: the producers send one event at a time.",
            width=8,
        ),
    ]


def _sink() -> list[Panel]:
    return [
        curves(
            "Rows to ClickHouse",
            [promql("sum by (table) (rate(metering_sink_rows_total[$__rate_interval]))", "{{table}}")],
            "Rows a second by table, replays included.",
            "zero with a lag: look at *Failures of the sink*.",
            bars=True,
        ),
        curves(
            "Flush of the sink",
            [
                promql(quantile("0.5", "metering_sink_flush_seconds"), "half", ref="A"),
                promql(quantile("0.99", "metering_sink_flush_seconds"), "99 %", ref="B"),
            ],
            "Time until ClickHouse has acknowledged a batch, retries included.",
            "above seconds: too many parts, or too little memory in ClickHouse.",
            unit="s",
        ),
    ]


def _outcomes() -> list[Panel]:
    return [
        curves(
            "Failures of the sink",
            [
                promql(
                    "sum by (remedy) (increase(metering_sink_failures_total[$__rate_interval]))", "{{remedy}}"
                )
            ],
            "`retry` is tried again, `poison` becomes a dead letter, `stop` needs a person.",
            "`stop`: the log of the sink has the sentence that says what to do.",
            width=6,
            bars=True,
        ),
        curves(
            "Dead letters to ClickHouse",
            [
                promql(
                    "sum by (reason) (increase(metering_sink_dead_letters_total[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            "Dead letters that the sink has sent, by reason, replays included.",
            "open *Data quality* for what they hold.",
            width=6,
            bars=True,
        ),
        curves(
            "Records made durable",
            [promql("sum by (topic) (rate(metering_position_records[$__rate_interval]))", "{{topic}}")],
            "Records a second that became durable, by topic.",
            "zero for a topic that has a lag: it stands still; the log of its owner says why.",
            width=6,
        ),
        curves(
            "Catalog revision",
            [
                promql("max(metering_catalog_revision)", "newest", ref="A"),
                promql("min(metering_catalog_revision > 0)", "oldest", ref="B"),
            ],
            "The newest and the oldest catalog revision that a worker has in force.",
            "they stay apart: a worker cannot read the catalog; its log says why.",
            width=6,
        ),
    ]
