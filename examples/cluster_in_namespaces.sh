#!/usr/bin/env bash
# Runs a coordinator and three workers on four hosts of one machine: network namespaces connected by a
# bridge. Cuts and restores the link of one worker during the run, and compares the result with that of
# an undisturbed run.
#
#     sudo bash examples/cluster_in_namespaces.sh [FOLDER]
#
# The script works in its own network, mount and process namespaces. It does not touch this machine's
# network, and the namespaces vanish when the script ends, however it ends. docs/example_cluster.md
# shows the output. Set KIPPER to the kipper command if it is not on the path.
set -euo pipefail

folder=${1:-runs/namespaces}
kipper=${KIPPER:-kipper}

if [[ ${INSIDE:-} != yes ]]; then
  if [[ $EUID != 0 ]]; then
    echo "Run this as root: it creates network namespaces." >&2
    exit 2
  fi
  for tool in unshare setpriv ip "$kipper"; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (apt-get install iproute2 util-linux)" >&2; exit 2; }
  done
  # When this script ends, the kernel ends the first process inside, with it all others, and then the
  # namespaces.
  INSIDE=yes setpriv --pdeathsig KILL unshare --net --mount --pid --fork --kill-child --mount-proc \
    bash "$0" "$@" &
  inside=$!
  trap 'kill -KILL $inside 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM
  wait $inside
  exit
fi

say() { echo; echo "== $*"; }

on() { # HOST COMMAND…
  local host=$1
  shift
  ip netns exec "$host" "$@"
}

# Prints a number from the run's status.json, or -1 if it does not exist yet.
progress() { # WORKDIR FIELD
  local value
  value=$(sed -n "s/.*\"$2\": \([0-9]*\).*/\1/p" "$1/status.json" 2>/dev/null | head -n 1)
  echo "${value:--1}"
}

wait_for() { # EVENT COMMAND…
  local event=$1 tries=0
  shift
  until "$@"; do
    if ((++tries > 1800)) || ! kill -0 "$coordinator" 2>/dev/null; then
      echo "$event did not happen; see $folder" >&2
      exit 1
    fi
    sleep 0.1
  done
}

has_reached() { (($(progress "$folder/parted" step) >= $1)); }
has_logged() { (($(grep -c "$1" "$folder/parted/logs/run.log") >= $2)); }

say "Four hosts and a bridge"
mount -t tmpfs none /run # where ip keeps the names of namespaces; visible in this mount namespace only
ip link add bridge type bridge
ip link set bridge up
number=0
for host in coordinator north east west; do
  number=$((number + 1))
  ip netns add "$host"
  ip link add "to-$host" type veth peer name eth0 netns "$host"
  ip link set "to-$host" master bridge up
  ip -n "$host" address add "10.77.0.$number/24" dev eth0
  ip -n "$host" link set eth0 up
  ip -n "$host" link set lo up
  echo "$host 10.77.0.$number"
done

rm -rf "$folder"
mkdir -p "$folder"
# A delay of 20 ms per answer makes the run long enough to disturb, on any machine.
run=(distill --dataset=digits --support_size=20 --learn_labels --steps=600 --block_support=10)
secure=(--transport=grpc_tls "--certificates=$folder/tls")
"$kipper" certificates "$folder/tls" >"$folder/certificates.log"

say "An undisturbed run, in one process"
"$kipper" "${run[@]}" --workdir="$folder/quiet" 2>"$folder/quiet.log" | tail -n 2

say "The same on four hosts"
for host in north east west; do
  on "$host" "$kipper" worker --coordinator=10.77.0.1:7000 --name="$host" "${secure[@]}" \
    >"$folder/$host.log" 2>&1 &
done
on coordinator "$kipper" "${run[@]}" --workdir="$folder/parted" --num_workers=0 --port=7000 \
  --host=10.77.0.1 "${secure[@]}" --chaos=delay:20ms >"$folder/coordinator.log" 2>&1 &
coordinator=$!

wait_for "Step 50" has_reached 50
ip link set to-west down
echo "step $(progress "$folder/parted" step): west is cut off"
wait_for "West's loss" has_logged "west.* is \(lost\|out of the run\)" 1
echo "step $(progress "$folder/parted" step): west was given up, the others continue"
ip link set to-west up
wait_for "West's return" has_logged "west.* joined" 2
echo "step $(progress "$folder/parted" step): west is back"
wait "$coordinator"
tail -n 2 "$folder/coordinator.log"

say "The coordinator's log about west"
grep -h "west" "$folder/parted/logs/run.log" | cut -c1-160

say "The results are equal, bit for bit"
cmp "$folder/quiet/distilled.npz" "$folder/parted/distilled.npz"
sha256sum "$folder"/{quiet,parted}/distilled.npz
