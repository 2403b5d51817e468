import java.util.TreeMap;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.ConfigDef;

/**
 * Every property of Kafka's producer, consumer and admin client as their ConfigDefs list them.
 *
 * A line: client TAB name TAB default, null where there is none   client: producer, consumer or admin
 */
public final class Properties {
    public static void main(String[] args) {
        print("producer", ProducerConfig.configDef());
        print("consumer", ConsumerConfig.configDef());
        print("admin", AdminClientConfig.configDef());
    }

    private static void print(String client, ConfigDef properties) {
        new TreeMap<>(properties.configKeys()).forEach((name, key) -> {
            if (key.internalConfig) {
                return; // Kafka's own, and in no documentation of it
            }
            String written = key.hasDefault()
                    ? ConfigDef.convertToString(key.defaultValue, key.type)
                    : null;
            System.out.println(client + "\t" + name + "\t" + written);
        });
    }
}
