package bench;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** One Kafka Streams process with one stream thread; orders come as system properties. */
public final class Main {
    private static final int CACHE_BYTES = 128 << 20;
    private static final long LOOK_MS = 50;
    private static final long GATE_MS = 120_000;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(order("folder"));
        Files.createFile(folder.resolve("ready"));
        waitFor(folder.resolve("gate"));
        long records = Long.parseLong(order("records"));
        Report report = new Report(folder, records);
        try (KafkaStreams streams = new KafkaStreams(topology(report), settings(folder));
                Admin admin = Admin.create(Map.of("bootstrap.servers", order("brokers")))) {
            streams.start();
            while (!report.isWhole() || committed(admin) < records) {
                if (streams.state() == KafkaStreams.State.ERROR) {
                    throw new IllegalStateException("the stream thread died");
                }
                Thread.sleep(LOOK_MS);
            }
            report.finish();
            handOver(streams, folder);
        }
    }

    private static Topology topology(Report report) {
        return new Topology()
                .addSource("events", order("topic"))
                .addProcessor("meter", () -> new Meter(report), "events")
                .addStateStore(
                        Stores.keyValueStoreBuilder(
                                Stores.persistentKeyValueStore(Meter.SEEN),
                                Serdes.ByteArray(),
                                Serdes.ByteArray()),
                        "meter")
                .addStateStore(
                        Stores.keyValueStoreBuilder(
                                        Stores.persistentKeyValueStore(Meter.TOTALS),
                                        Serdes.ByteArray(),
                                        Serdes.ByteArray())
                                .withCachingEnabled(),
                        "meter");
    }

    private static Properties settings(Path folder) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, order("group"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, order("brokers"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, folder.resolve("state").toString());
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, order("commit_ms"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, order("guarantee"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, CACHE_BYTES);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Tuning.class);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 10_000);
        settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        settings.put(StreamsConfig.producerPrefix("linger.ms"), 50);
        settings.put(StreamsConfig.producerPrefix("batch.size"), 1 << 18);
        return settings;
    }

    private static long committed(Admin admin) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets =
                admin.listConsumerGroupOffsets(order("group")).partitionsToOffsetAndMetadata().get();
        String topic = order("topic");
        return offsets.entrySet().stream()
                .filter(entry -> entry.getKey().topic().equals(topic) && entry.getValue() != null)
                .mapToLong(entry -> entry.getValue().offset())
                .sum();
    }

    private static void handOver(KafkaStreams streams, Path folder) throws IOException {
        ReadOnlyKeyValueStore<byte[], byte[]> totals =
                streams.store(
                        StoreQueryParameters.fromNameAndType(
                                Meter.TOTALS, QueryableStoreTypes.keyValueStore()));
        Path partial = folder.resolve("totals.part");
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(partial));
                KeyValueIterator<byte[], byte[]> all = totals.all()) {
            String separator = "{";
            while (all.hasNext()) {
                KeyValue<byte[], byte[]> entry = all.next();
                ByteBuffer total = ByteBuffer.wrap(entry.value);
                String place = new String(entry.key, StandardCharsets.UTF_8);
                out.printf("%s\"%s\":[%d,%d]", separator, place, total.getLong(), total.getLong());
                separator = ",";
            }
            out.print("}");
        }
        Files.move(partial, folder.resolve("totals.json"));
    }

    private static void waitFor(Path gate) throws InterruptedException {
        long deadline = System.currentTimeMillis() + GATE_MS;
        while (!Files.exists(gate)) {
            if (System.currentTimeMillis() > deadline) {
                throw new IllegalStateException("the gate did not open");
            }
            Thread.sleep(20);
        }
    }

    private static String order(String name) {
        String value = System.getProperty("bench." + name);
        if (value == null) {
            throw new IllegalArgumentException("-Dbench." + name + " is missing");
        }
        return value;
    }
}
