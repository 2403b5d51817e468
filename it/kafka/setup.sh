#!/bin/sh
# setup.sh VERSION: puts a real Apache Kafka into the cache, once per machine: its jars, and for 4.3 a
# formatted data directory to copy and a class archive that cuts a broker's start to a second.
# The cache is $TIDEWATCH_CACHE, else ~/.cache/tidewatch. Whole or not at all: built aside, then moved.
set -eu
version=${1:?name a version, such as 4.3.1}
here=$(cd "$(dirname "$0")" && pwd)
cache=${TIDEWATCH_CACHE:-$HOME/.cache/tidewatch}
home=$cache/kafka-$version
[ -e "$home/ready" ] && exit 0
for tool in java mvn; do
  command -v $tool >/dev/null || { echo "setup.sh: $tool is not installed; the suites against a real Kafka need a JDK 17 and Maven" >&2; exit 1; }
done
mkdir -p "$cache"
new=$(mktemp -d "$cache/kafka-$version.XXXXXX")
trap 'rm -rf "$new"' EXIT
echo "fetching Kafka $version (about 55 MB)" >&2
# 3.9 brings a second logging backend that swallows the log lines we wait for.
mvn -q -B -f "$here/pom.xml" -Dkafka.version="$version" dependency:copy-dependencies \
  -DoutputDirectory="$new/libs" -DincludeScope=runtime
rm -f "$new"/libs/slf4j-reload4j*.jar
rm -rf "$home"
mv "$new" "$home"
class_path=$(ls "$home"/libs/*.jar | LC_ALL=C sort | paste -sd:)
jvm="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp $class_path"
case $version in
4.3.*)
  mkdir "$home/template"
  (cd "$home/template" && java $jvm kafka.tools.StorageTool format --standalone \
    -t AAAAAAAAAAAAAAAAAAAAAQ -c "$here/single.properties" >/dev/null 2>&1)
  # The archive is bound to this exact class path and JDK; a mismatch only costs speed.
  run=$home/archive-run
  mkdir "$run" && cp -r "$home/template/data" "$run/data" && : >"$run/log"
  (cd "$run" && exec java -XX:ArchiveClassesAtExit="$home/broker.jsa" -Xmx96m \
    -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info $jvm kafka.Kafka "$here/single.properties") >"$run/log" 2>&1 &
  broker=$!
  tries=0
  until grep -q 'Kafka Server started' "$run/log"; do
    kill -0 $broker 2>/dev/null && [ $tries -lt 600 ] || { cat "$run/log" >&2; exit 1; }
    tries=$((tries + 1)); sleep 0.1
  done
  kill $broker; wait $broker || true
  rm -rf "$run" ;;
esac
touch "$home/ready"
