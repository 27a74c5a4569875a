package bench;

import java.util.Map;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.Options;

/** A filter that lets new ids pass without a read, and memtables that hold some seconds of them. */
public final class Tuning implements RocksDBConfigSetter {
    private static final long MEMTABLE_BYTES = 64L << 20;
    private static final double BITS_PER_KEY = 10;

    private BloomFilter filter;

    @Override
    public void setConfig(String store, Options options, Map<String, Object> settings) {
        filter = new BloomFilter(BITS_PER_KEY, false);
        BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
        table.setFilterPolicy(filter);
        options.setTableFormatConfig(table);
        options.setWriteBufferSize(MEMTABLE_BYTES);
        options.setMaxWriteBufferNumber(3);
    }

    @Override
    public void close(String store, Options options) {
        filter.close();
    }
}
