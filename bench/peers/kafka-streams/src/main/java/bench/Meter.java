package bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Decode, deduplicate, add up by the hour: the same job as the metering worker's first fold. */
final class Meter implements Processor<byte[], byte[], Void, Void> {
    static final String SEEN = "seen";
    static final String TOTALS = "totals";
    private static final long HOUR_MS = 3_600_000L;
    private static final byte[] PRESENT = {1};
    private static final JsonFactory JSON = new JsonFactory();

    private final Report report;
    private KeyValueStore<byte[], byte[]> seen;
    private KeyValueStore<byte[], byte[]> totals;

    private String id;
    private String customer;
    private String source;
    private String region;
    private long time;
    private long quantity;

    Meter(Report report) {
        this.report = report;
    }

    @Override
    public void init(ProcessorContext<Void, Void> context) {
        seen = context.getStateStore(SEEN);
        totals = context.getStateStore(TOTALS);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            decode(record.value());
        } catch (IOException error) {
            throw new IllegalStateException("a record of the load that is no event", error);
        }
        byte[] identity = (customer + '\0' + source + '\0' + id).getBytes(StandardCharsets.UTF_8);
        if (seen.putIfAbsent(identity, PRESENT) == null) {
            add((customer + '|' + region + '|' + time / HOUR_MS * 3_600).getBytes(StandardCharsets.UTF_8));
        }
        report.taken();
    }

    private void add(byte[] place) {
        byte[] held = totals.get(place);
        ByteBuffer total = ByteBuffer.allocate(16);
        if (held == null) {
            total.putLong(quantity).putLong(1);
        } else {
            ByteBuffer before = ByteBuffer.wrap(held);
            total.putLong(before.getLong() + quantity).putLong(before.getLong() + 1);
        }
        totals.put(place, total.array());
    }

    private void decode(byte[] value) throws IOException {
        try (JsonParser parser = JSON.createParser(value)) {
            while (parser.nextToken() != null) {
                if (parser.currentToken() == JsonToken.FIELD_NAME) {
                    String name = parser.currentName();
                    JsonToken token = parser.nextToken();
                    switch (name) {
                        case "id" -> id = parser.getText();
                        case "customer" -> customer = parser.getText();
                        case "source" -> source = parser.getText();
                        case "region" -> region = parser.getText();
                        case "time" -> time = parser.getLongValue();
                        case "n" -> quantity = parser.getLongValue();
                        default -> {
                            if (token == JsonToken.START_ARRAY) {
                                parser.skipChildren();
                            }
                        }
                    }
                }
            }
        }
    }
}
