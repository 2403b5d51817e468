# What is shipped, for which targets and how: sourced by the scripts beside it, from the root.
# shellcheck shell=bash disable=SC2034 # used by those that source it
targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf)

programs() { # of a target
  case $1 in
  x86_64-*) echo tidewatch-collector tidewatch-aggregator tidewatch-devbroker ;;
  *) echo tidewatch-collector ;; # what runs on every host
  esac
}

profile() { # of a program
  case $1 in
  tidewatch-aggregator) echo release ;;
  *) echo small ;;
  esac
}

package() { # Cargo's name of what a program is part of
  case $1 in
  tidewatch-*) echo "$1" ;;
  *) echo tidewatch-it ;; # not shipped: what is measured
  esac
}

most_bytes() { # that a small program may have: what runs on every host is to stay small
  case $1 in
  tidewatch-collector) echo 2500000 ;;
  *) echo 10000000 ;;
  esac
}

std_of() { # a profile: the kind of std that goes with it
  case $1 in
  small) echo small ;;
  *) echo ready ;;
  esac
}

architecture() { # Debian's name of a target's
  case $1 in
  x86_64-*) echo amd64 ;;
  aarch64-*) echo arm64 ;;
  armv7-*) echo armhf ;;
  esac
}

emulator() { # what runs a target's programs on this host; nothing where that is the host itself
  case $1 in
  "$(uname -m)"-*) ;;
  armv7-*) echo qemu-arm-static ;;
  *) echo "qemu-${1%%-*}-static" ;;
  esac
}

need_all() { # tools, each with its Debian package behind a colon
  local missing=() packages=()
  for tool in "$@"; do
    command -v "${tool%%:*}" >/dev/null || { missing+=("${tool%%:*}"); packages+=("${tool#*:}"); }
  done
  [ ${#missing[@]} = 0 ] && return
  echo "${0##*/}: not installed: ${missing[*]}; on Debian: apt-get install $(printf '%s\n' "${packages[@]}" | sort -u | paste -sd' ')" >&2
  exit 1
}

need() { # a tool, and Debian's package of it
  need_all "$1:$2"
}

cache=${TIDEWATCH_CACHE:-$HOME/.cache/tidewatch}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
out=${TIDEWATCH_OUT:-$CARGO_TARGET_DIR/dist}
version=$(sed -n '/^\[workspace\.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# Every file that is packed is as old as the commit, whoever packs it and when.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
