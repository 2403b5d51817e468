# Programs that take commands from standard input and say on standard output when they have done them:
# sourced by what looks at them from outside. All end with the script.
# shellcheck shell=bash
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

start_devbroker() { # its arguments: a broker of tests, at $address
  cargo build --locked --quiet -p tidewatch-devbroker
  start "$CARGO_TARGET_DIR/debug/tidewatch-devbroker" --listen 127.0.0.1:0 "$@" 2>/dev/null
  read -r _ address <&"$from"
}

idle_client() { # a command that runs it: it has nothing more to do when this returns
  # A producer that has sent, and a consumer that has read, as the only member of a group.
  start "$@" idle bootstrap.servers="$address" group.id="idle-${#pids[@]}" auto.offset.reset=earliest
  expect hello
  echo open >&"$to"
  expect idle
  sleep 5 # what it still has to tell after the last answer is not idling
}
