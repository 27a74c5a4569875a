package bench;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;

/** How many records were taken, at what CPU time of the whole process. */
final class Report {
    private static final long EVERY_NANOS = 200_000_000L;
    private static final int LOOK_EVERY = 256;

    private final OperatingSystemMXBean system =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private final long records;
    private final PrintWriter out;
    private volatile long count;
    private long reported;

    Report(Path folder, long records) throws IOException {
        this.records = records;
        this.out = new PrintWriter(Files.newBufferedWriter(folder.resolve("progress")), true);
        write(0);
    }

    /** Called by the one stream thread. */
    void taken() {
        long now = count + 1;
        count = now;
        if (now % LOOK_EVERY == 0 && System.nanoTime() - reported > EVERY_NANOS) {
            reported = System.nanoTime();
            write(now);
        }
    }

    boolean isWhole() {
        return count >= records;
    }

    void finish() {
        write(records);
    }

    private synchronized void write(long taken) {
        out.printf(
                "%d %.3f %.3f%n",
                taken, system.getProcessCpuTime() / 1e9, System.currentTimeMillis() / 1e3);
    }
}
