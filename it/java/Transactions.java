import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own transactional producer, step by step: each line of standard input is a step, and each is
 * answered by a line "ok STEP" or "failed STEP: EXCEPTION".
 *
 * BOOTSTRAP TRANSACTIONAL-ID TOPIC
 *
 * init | begin | send VALUE | flush | commit | abort
 */
public final class Transactions {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("transactional.id", args[1]);
        StringSerializer text = new StringSerializer();
        BufferedReader steps = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        KafkaProducer<String, String> producer = new KafkaProducer<>(properties, text, text);
        for (String step = steps.readLine(); step != null; step = steps.readLine()) {
            try {
                take(producer, args[2], step.split(" ", 2));
                System.out.println("ok " + step);
            } catch (Exception e) {
                System.out.println("failed " + step + ": " + e.getClass().getSimpleName());
            }
            System.out.flush();
        }
        producer.close(java.time.Duration.ZERO);
    }

    private static void take(KafkaProducer<String, String> producer, String topic, String[] step) {
        switch (step[0]) {
            case "init" -> producer.initTransactions();
            case "begin" -> producer.beginTransaction();
            case "send" -> producer.send(new ProducerRecord<>(topic, step[1]));
            case "flush" -> producer.flush();
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            default -> throw new IllegalArgumentException(step[0]);
        }
    }
}
