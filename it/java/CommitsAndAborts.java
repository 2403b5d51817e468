import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * BOOTSTRAP TOPIC COUNT: so many transactions of three records each on partition 0, aborted and
 * committed in turn, the first one aborted. A record's value says which it was: "aborted 0.0",
 * "committed 1.2", ...
 */
public final class CommitsAndAborts {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("transactional.id", "commits-and-aborts");
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, bytes, bytes)) {
            producer.initTransactions();
            for (int number = 0; number < Integer.parseInt(args[2]); number++) {
                boolean commits = number % 2 == 1;
                producer.beginTransaction();
                for (int record = 0; record < 3; record++) {
                    String value = (commits ? "committed " : "aborted ") + number + "." + record;
                    producer.send(new ProducerRecord<>(args[1], 0, null, value.getBytes(StandardCharsets.UTF_8)));
                }
                // An abort would drop what was not sent yet.
                producer.flush();
                if (commits) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
    }
}
