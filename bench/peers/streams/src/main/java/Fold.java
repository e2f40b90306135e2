import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The fold job in Kafka Streams: each system's newest report of a person in a RocksDB store with a changelog, and the
 * golden record to a topic after every report that is news. With the address of a PostgreSQL database it is upserted there too, in
 * batches, before the offsets are committed.
 *
 * <p>Fold BOOTSTRAP IN OUT EVENTS SCHEMA TRUTH STATE_DIR THREADS [JDBC_URL]; prints as JSON the events that were timed, seconds
 * and CPU seconds. -Dfold.cache=BYTES keeps so much of the store in memory, -Dfold.warm=N does not time the first N events.
 */
public final class Fold {
    static final ObjectMapper JSON = new ObjectMapper();
    static final TypeReference<LinkedHashMap<String, Map<String, Object>>> STATE = new TypeReference<>() {};
    static final AtomicLong LEFT = new AtomicLong();
    static final AtomicLong BEGAN = new AtomicLong();
    static final AtomicLong BEGAN_CPU = new AtomicLong();
    static final long CACHE = Long.getLong("fold.cache", 0);
    static final long WARM = Long.getLong("fold.warm", 0);
    static final CountDownLatch DONE = new CountDownLatch(1);
    static Map<String, String[]> truth;
    static Schema schema;
    static String jdbc;
    static long timed;

    public static void main(String[] args) throws Exception {
        LEFT.set(Long.parseLong(args[3]));
        timed = LEFT.get() - WARM;
        schema = new Schema.Parser().parse(new File(args[4]));
        truth = JSON.readValue(args[5], new TypeReference<LinkedHashMap<String, String[]>>() {});
        jdbc = args.length > 8 ? args[8] : null;
        if (jdbc != null) {
            try (Connection connection = DriverManager.getConnection(jdbc)) {
                connection.createStatement().execute("create table golden (id text primary key, fields jsonb)");
            }
        }
        StreamsBuilder builder = new StreamsBuilder();
        StoreBuilder<KeyValueStore<String, byte[]>> store = Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("reports"), Serdes.String(), Serdes.ByteArray());
        builder.addStateStore(CACHE > 0 ? store.withCachingEnabled() : store);
        builder.stream(args[1], Consumed.with(Serdes.String(), Serdes.ByteArray()))
            .process(Folding::new, "reports")
            .to(args[2], Produced.with(Serdes.String(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args));
        streams.start();
        DONE.await();
        streams.close(Duration.ofSeconds(60)); // flushes what is to be sent, and commits
        double seconds = (System.nanoTime() - BEGAN.get()) / 1e9;
        double cpu = (cpu() - BEGAN_CPU.get()) / 1e9;
        System.out.println("{\"events\": " + timed + ", \"seconds\": " + seconds + ", \"cpu\": " + cpu + "}");
    }

    static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[2] + "-fold");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[7]);
        settings.put("auto.offset.reset", "earliest");
        if (CACHE > 0) {
            settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, CACHE);
        }
        return settings;
    }

    static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
            .getProcessCpuTime();
    }

    static final class Folding implements Processor<String, byte[], String, byte[]> {
        private final GenericDatumReader<GenericRecord> reader = new GenericDatumReader<>(schema);
        private final Map<String, byte[]> unsaved = new HashMap<>();
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> store;
        private BinaryDecoder decoder;
        private Connection connection;
        private PreparedStatement upsert;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            this.store = context.getStateStore("reports");
            if (jdbc != null) {
                connect();
                context.schedule(Duration.ofMillis(100), PunctuationType.WALL_CLOCK_TIME, at -> save());
            }
        }

        @Override
        public void process(Record<String, byte[]> record) {
            if (LEFT.get() <= timed && BEGAN.compareAndSet(0, System.nanoTime())) {
                BEGAN_CPU.set(cpu());
            }
            try {
                fold(record);
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
            if (LEFT.decrementAndGet() == 0) {
                DONE.countDown();
            }
        }

        @Override
        public void close() {
            save();
        }

        private void fold(Record<String, byte[]> record) throws Exception {
            ByteBuffer value = ByteBuffer.wrap(record.value());
            decoder = DecoderFactory.get().binaryDecoder(value.array(), 5, value.capacity() - 5, decoder);
            GenericRecord event = reader.read(null, decoder);
            byte[] stored = store.get(record.key());
            Map<String, Map<String, Object>> reports = stored == null ? new LinkedHashMap<>() : JSON.readValue(stored, STATE);
            String system = event.get("system").toString();
            Map<String, Object> known = reports.get(system);
            long at = (long) event.get("at");
            if (known != null && ((Number) known.get("at")).longValue() >= at) {
                return;
            }
            ByteBuffer payload = (ByteBuffer) event.get("payload");
            Map<String, Object> report = new HashMap<>();
            report.put("at", at);
            report.put("fields", JSON.readValue(payload.array(), Map.class));
            reports.put(system, report);
            store.put(record.key(), JSON.writeValueAsBytes(reports));
            byte[] golden = golden(reports);
            context.forward(record.withValue(golden));
            keep(record.key(), golden);
        }

        private static byte[] golden(Map<String, Map<String, Object>> reports) throws Exception {
            Map<String, Object> chosen = new LinkedHashMap<>();
            for (Map.Entry<String, String[]> field : truth.entrySet()) {
                for (String system : field.getValue()) {
                    if (reports.containsKey(system)) {
                        chosen.put(field.getKey(), ((Map<?, ?>) reports.get(system).get("fields")).get(field.getKey()));
                        break;
                    }
                }
            }
            return JSON.writeValueAsBytes(chosen);
        }

        private void keep(String key, byte[] golden) {
            if (jdbc != null) {
                unsaved.put(key, golden);
                if (unsaved.size() >= 1000) {
                    save();
                }
            }
        }

        private void save() {
            if (jdbc == null || unsaved.isEmpty()) {
                return;
            }
            try {
                for (Map.Entry<String, byte[]> one : unsaved.entrySet()) {
                    upsert.setString(1, one.getKey());
                    upsert.setString(2, new String(one.getValue(), java.nio.charset.StandardCharsets.UTF_8));
                    upsert.addBatch();
                }
                upsert.executeBatch();
                connection.commit();
                unsaved.clear();
            } catch (SQLException error) {
                throw new IllegalStateException(error);
            }
        }

        private void connect() {
            try {
                connection = DriverManager.getConnection(jdbc);
                connection.setAutoCommit(false);
                upsert = connection.prepareStatement("insert into golden (id, fields) values (?, ?::jsonb)"
                    + " on conflict (id) do update set fields = excluded.fields");
            } catch (SQLException error) {
                throw new IllegalStateException(error);
            }
        }
    }
}
