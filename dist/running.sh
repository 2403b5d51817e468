# Programs that run while a script looks at them from outside, and end with it: sourced by such scripts. Some take
# commands from standard input, and say on standard output when they have done them.
# shellcheck shell=bash disable=SC2034 # used by those that source it
sample_topics=(--topic cpu-monitor:1 --topic mem-monitor:1 --topic cpu-monitor-agg-result:1 --topic mem-monitor-agg-result:1)
work=$(mktemp -d)
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"; }
trap finish EXIT

start() { # a command: what is written to descriptor $to it reads, what it says comes from $from
  local pipe=$work/${#pids[@]}
  mkfifo "$pipe.in" "$pipe.out"
  "$@" <"$pipe.in" >"$pipe.out" &
  pids+=($!)
  exec {to}>"$pipe.in" {from}<"$pipe.out"
}

expect() { # a line
  local line
  read -r line <&"$from" && [ "$line" = "$1" ] || { echo "${0##*/}: '$1' was expected: ${line:-nothing came}" >&2; exit 1; }
}

start_devbroker() { # the program, its arguments: it listens at $address
  start "$1" --listen 127.0.0.1:0 "${@:2}" 2>"$work/devbroker.log"
  read -r _ address <&"$from" || { cat "$work/devbroker.log" >&2; exit 1; }
}

idle_client() { # a command that runs it: it has nothing more to do when this returns
  # A producer that has sent, and a consumer that has read, as the only member of a group.
  start "$@" idle bootstrap.servers="$address" group.id="idle-${#pids[@]}" auto.offset.reset=earliest
  expect hello
  echo open >&"$to"
  expect idle
  sleep 5 # what it still has to tell after the last answer is not idling
}
