// SPDX-License-Identifier: Apache-2.0
// A small HDFS on loopback for tests: two name nodes (one active) and three data nodes, driven by
// lines on standard input, one answer line each. Ends with its input.
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.MiniDFSNNTopology;
import org.apache.hadoop.hdfs.protocol.HdfsConstants;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.SafeModeAction;
import org.apache.hadoop.hdfs.server.common.HdfsServerConstants;
import org.apache.hadoop.hdfs.server.namenode.ha.HATestUtil;

public final class MiniHdfs {
    private static MiniDFSCluster cluster;
    private static int active;
    private static MiniDFSCluster.DataNodeProperties stopped;

    private static DistributedFileSystem files() throws Exception {
        return cluster.getFileSystem(active);
    }

    private static String uri() {
        StringBuilder hosts = new StringBuilder();
        for (int i = 0; i < cluster.getNumNameNodes(); i++) {
            InetSocketAddress at = cluster.getNameNode(i).getHttpAddress();
            hosts.append(i == 0 ? "" : ",").append("127.0.0.1:").append(at.getPort());
        }
        return "webhdfs://" + hosts;
    }

    private static String run(String[] words) throws Exception {
        switch (words[0]) {
            case "uri":
                return uri();
            case "failover":
                cluster.transitionToStandby(active);
                active = 1 - active;
                cluster.transitionToActive(active);
                cluster.waitActive(active);
                return "active " + active;
            case "restart":
                cluster.restartNameNode(active, true);
                cluster.transitionToActive(active);
                cluster.waitActive(active);
                return "restarted " + active;
            case "safemode":
                files().setSafeMode(words[1].equals("on") ? SafeModeAction.SAFEMODE_ENTER
                                                          : SafeModeAction.SAFEMODE_LEAVE);
                return "safemode " + words[1];
            case "stop":
                stopped = cluster.stopDataNode(Integer.parseInt(words[1]));
                return "stopped";
            case "start":
                cluster.restartDataNode(stopped, true);
                cluster.waitActive(active);
                return "started";
            case "quota":
                files().mkdirs(new Path(words[1]));
                files().setQuota(new Path(words[1]), HdfsConstants.QUOTA_DONT_SET,
                    words[2].equals("none") ? HdfsConstants.QUOTA_RESET : Long.parseLong(words[2]));
                return "quota";
            case "mode":
                return files().getFileStatus(new Path(words[1])).getPermission().toString();
            default:
                return "what is " + words[0] + "?";
        }
    }

    public static void main(String[] args) throws Exception {
        Configuration conf = new Configuration();
        conf.set("dfs.permissions.superusergroup", "keyweir");
        conf.setInt("dfs.namenode.safemode.extension", 0);
        conf.setInt("dfs.ls.limit", 7);
        conf.setInt("dfs.heartbeat.interval", 1);
        conf.setInt("dfs.namenode.heartbeat.recheck-interval", 1000);
        conf.setInt("dfs.namenode.fs-limits.min-block-size", 4096);
        conf.setInt("dfs.replication", 3);
        File base = new File(args[0]);
        cluster = new MiniDFSCluster.Builder(conf, base)
            .nnTopology(MiniDFSNNTopology.simpleHATopology(2))
            .numDataNodes(0)
            .build();
        cluster.transitionToActive(0);
        // A name node that was restarted calls its cluster by name: data nodes must know the name.
        conf.setInt("dfs.replication", 3); // cut down to the number of data nodes there were
        HATestUtil.setFailoverConfigurations(cluster, conf, "minidfs-ns");
        cluster.startDataNodes(conf, 3, true, HdfsServerConstants.StartupOption.REGULAR, null);
        cluster.waitActive(0);
        files().mkdirs(new Path("/user"));
        files().setPermission(new Path("/user"), new FsPermission((short) 0777));
        System.out.println("ready " + uri());
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String answer;
            try {
                answer = run(line.trim().split(" +"));
            } catch (Exception e) {
                answer = "failed: " + e;
            }
            System.out.println(answer.replace('\n', ' '));
        }
        cluster.shutdown(true);
        System.exit(0);
    }
}
