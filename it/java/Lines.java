import java.io.BufferedReader;
import java.io.BufferedOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Records as lines, both ways, through Kafka's own client: every byte as hex, null as "-", so that
 * null, empty and "null" stay apart (the console tools print all three alike).
 *
 * write BOOTSTRAP TOPIC name=value...   lines from standard input are produced
 * read  BOOTSTRAP TOPIC name=value...   the whole topic, partition by partition, to standard output
 *
 * A line: partition TAB timestamp TAB key TAB value TAB header,header...   a header: key:value
 * "read" puts the offset in front.
 */
public final class Lines {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[1]);
        for (int i = 3; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        if (args[0].equals("write")) {
            write(properties, args[2]);
        } else {
            read(properties, args[2]);
        }
    }

    private static void write(Properties properties, String topic) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                     new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
             BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] field = line.split("\t", -1);
                List<Header> headers = new ArrayList<>();
                if (!field[4].isEmpty()) {
                    for (String header : field[4].split(",")) {
                        String[] pair = header.split(":", -1);
                        headers.add(new RecordHeader(new String(HEX.parseHex(pair[0]), StandardCharsets.UTF_8), bytes(pair[1])));
                    }
                }
                sent.add(producer.send(new ProducerRecord<>(
                        topic, Integer.parseInt(field[0]), Long.parseLong(field[1]), bytes(field[2]), bytes(field[3]), headers)));
            }
        }
        for (Future<RecordMetadata> future : sent) {
            future.get();
        }
        System.out.println("SENT " + sent.size());
    }

    private static void read(Properties properties, String topic) {
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false, StandardCharsets.US_ASCII);
        try (KafkaConsumer<byte[], byte[]> consumer =
                     new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
            partitions.sort((a, b) -> a.partition() - b.partition());
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            for (TopicPartition partition : partitions) {
                consumer.assign(List.of(partition));
                consumer.seekToBeginning(List.of(partition));
                while (consumer.position(partition) < ends.get(partition)) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                        print(out, record);
                    }
                }
            }
        }
        out.flush();
    }

    private static void print(PrintStream out, ConsumerRecord<byte[], byte[]> record) {
        StringBuilder line = new StringBuilder()
                .append(record.offset()).append('\t').append(record.partition()).append('\t').append(record.timestamp()).append('\t')
                .append(hex(record.key())).append('\t').append(hex(record.value())).append('\t');
        String comma = "";
        for (Header header : record.headers()) {
            line.append(comma).append(HEX.formatHex(header.key().getBytes(StandardCharsets.UTF_8))).append(':').append(hex(header.value()));
            comma = ",";
        }
        out.append(line).append('\n');
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "-" : HEX.formatHex(bytes);
    }

    private static byte[] bytes(String hex) {
        return hex.equals("-") ? null : HEX.parseHex(hex);
    }
}
