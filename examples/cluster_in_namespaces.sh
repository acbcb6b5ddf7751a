#!/usr/bin/env bash
# Four hosts on one machine, as network namespaces with a bridge between them: a coordinator and three
# workers. The link of one worker is cut in mid-run and healed; the result is that of a quiet run.
#
#     sudo bash examples/cluster_in_namespaces.sh [FOLDER]
#
# Everything happens within namespaces of its own, of network, mounts and processes: nothing of this
# machine's network is touched, and all of it is gone when the script ends, however it ends.
# docs/example_cluster.md shows what it prints. KIPPER names the command if it is not on the path.
set -euo pipefail

folder=${1:-runs/namespaces}
kipper=${KIPPER:-kipper}

if [[ ${INSIDE:-} != yes ]]; then
  if [[ $EUID != 0 ]]; then
    echo "This needs root, to make network namespaces." >&2
    exit 2
  fi
  for tool in unshare setpriv ip "$kipper"; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (apt-get install iproute2 util-linux)" >&2; exit 2; }
  done
  # The kernel ends every process inside with the first one, that with this script, and the
  # namespaces with the last of them.
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

# A number of the run's status.json; -1 where there is none yet.
progress() { # WORKDIR FIELD
  local value
  value=$(sed -n "s/.*\"$2\": \([0-9]*\).*/\1/p" "$1/status.json" 2>/dev/null | head -n 1)
  echo "${value:--1}"
}

wait_for() { # WHAT COMMAND…
  local what=$1 tries=0
  shift
  until "$@"; do
    if ((++tries > 1800)) || ! kill -0 "$coordinator" 2>/dev/null; then
      echo "$what did not come about; see $folder" >&2
      exit 1
    fi
    sleep 0.1
  done
}

has_reached() { (($(progress "$folder/parted" step) >= $1)); }
has_logged() { (($(grep -c "$1" "$folder/parted/logs/run.log") >= $2)); }

say "Four hosts and a bridge"
mount -t tmpfs none /run # where ip keeps the names of namespaces; of this mount namespace alone
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
# Answers that come 20 ms late make the run last long enough to be disturbed, on any machine.
run=(distill --dataset=digits --support_size=20 --learn_labels --steps=600 --block_support=10)
secured=(--transport=grpc_tls "--certificates=$folder/tls")
"$kipper" certificates "$folder/tls" >"$folder/certificates.log"

say "A quiet run, in one process"
"$kipper" "${run[@]}" --workdir="$folder/quiet" 2>"$folder/quiet.log" | tail -n 2

say "The same on four hosts"
for host in north east west; do
  on "$host" "$kipper" worker --coordinator=10.77.0.1:7000 --name="$host" "${secured[@]}" \
    >"$folder/$host.log" 2>&1 &
done
on coordinator "$kipper" "${run[@]}" --workdir="$folder/parted" --num_workers=0 --port=7000 \
  --host=10.77.0.1 "${secured[@]}" --chaos=delay:20ms >"$folder/coordinator.log" 2>&1 &
coordinator=$!

wait_for "Step 50" has_reached 50
ip link set to-west down
echo "step $(progress "$folder/parted" step): west is cut off"
wait_for "West's loss" has_logged "west.* is \(lost\|out of the run\)" 1
echo "step $(progress "$folder/parted" step): west was given up, the others go on"
ip link set to-west up
wait_for "West's return" has_logged "west.* joined" 2
echo "step $(progress "$folder/parted" step): west is back"
wait "$coordinator"
tail -n 2 "$folder/coordinator.log"

say "What the coordinator's log says of west"
grep -h "west" "$folder/parted/logs/run.log" | cut -c1-160

say "Whether the results are the same, bit for bit"
cmp "$folder/quiet/distilled.npz" "$folder/parted/distilled.npz"
sha256sum "$folder"/{quiet,parted}/distilled.npz
