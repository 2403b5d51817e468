import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;

/**
 * What Java's assignors make of groups. Each line of standard input is one group:
 *
 * ASSIGNOR GENERATION topic:partitions,... id|instance|subscription ...
 *
 * the instance is "-" for none, the subscription the consumer protocol's bytes as hex. For each comes a line
 * with, per member in the same order, id|subscription|assignment|user data: the subscription written again by
 * Java, the assignment's bytes, and what the member would tell the next leader after it ("-" for nothing).
 */
public final class Assignors {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            System.out.println(answer(line.split(" ")));
        }
    }

    private static String answer(String[] words) {
        ConsumerPartitionAssignor assignor = assignor(words[0]);
        int generation = Integer.parseInt(words[1]);
        List<String> ids = new ArrayList<>();
        Map<String, Subscription> subscriptions = new HashMap<>();
        for (String word : Arrays.copyOfRange(words, 3, words.length)) {
            String[] member = word.split("\\|");
            Subscription subscription = ConsumerProtocol.deserializeSubscription(ByteBuffer.wrap(HEX.parseHex(member[2])));
            subscription.setGroupInstanceId(member[1].equals("-") ? Optional.empty() : Optional.of(member[1]));
            ids.add(member[0]);
            subscriptions.put(member[0], subscription);
        }
        StringBuilder out = new StringBuilder();
        Map<String, String> written = new HashMap<>();
        subscriptions.forEach((id, s) -> written.put(id, hex(ConsumerProtocol.serializeSubscription(s))));
        Map<String, Assignment> assignments =
            assignor.assign(cluster(words[2]), new GroupSubscription(subscriptions)).groupAssignment();
        for (String id : ids) {
            Assignment assignment = assignments.get(id);
            ConsumerPartitionAssignor own = assignor(words[0]);
            own.onAssignment(assignment, new ConsumerGroupMetadata("g", generation, id, Optional.empty()));
            ByteBuffer userData = own.subscriptionUserData(Set.copyOf(subscriptions.get(id).topics()));
            out.append(out.length() == 0 ? "" : " ").append(id).append('|').append(written.get(id)).append('|')
                .append(hex(ConsumerProtocol.serializeAssignment(assignment))).append('|')
                .append(userData == null ? "-" : hex(userData));
        }
        return out.toString();
    }

    private static ConsumerPartitionAssignor assignor(String name) {
        switch (name) {
            case "range": return new RangeAssignor();
            case "roundrobin": return new RoundRobinAssignor();
            case "sticky": return new StickyAssignor();
            default: return new CooperativeStickyAssignor();
        }
    }

    private static Cluster cluster(String topics) {
        Node node = new Node(1, "localhost", 9092);
        Node[] nodes = {node};
        List<PartitionInfo> partitions = new ArrayList<>();
        for (String topic : topics.split(",")) {
            String[] parts = topic.split(":");
            for (int i = 0; i < Integer.parseInt(parts[1]); i++) {
                partitions.add(new PartitionInfo(parts[0], i, node, nodes, nodes));
            }
        }
        return new Cluster("c", List.of(node), partitions, new HashSet<>(), new HashSet<>());
    }

    private static String hex(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return HEX.formatHex(bytes);
    }
}
