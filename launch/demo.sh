#!/usr/bin/env bash
# Distills mnist5k to ten images over two worker processes: demo.sh FOLDER_OF_EXECUTABLES
# Both compute every block, and the run waits for both, so that neither computes all alone.
# Launchpad starts the processes where it is installed, and Ray elsewhere.
set -euo pipefail

installed='from kipper.common.this_python import is_installed as i; raise SystemExit(not i("launchpad"))'
if "$1/python" -c "$installed"; then launch=local_mp; else launch=ray; fi
"$1/kipper" distill --workdir=demo --overwrite --launch=$launch --num_workers=2 --verify_fraction=1 \
  --dataset=mnist5k --architecture=fc1 --support_size=10 --learn_labels --steps=60 \
  --target_batch_size=5000 --learning_rate=0.04
echo
echo "Open demo/report.html. To evaluate the set again from its files:"
echo "  $1/kipper evaluate --distilled=demo/distilled.npz"
