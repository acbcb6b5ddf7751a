#!/usr/bin/env bash
# Distils mnist5k to ten images over two Courier workers: demo.sh FOLDER_OF_EXECUTABLES
set -euo pipefail

"$1/kipper" distill --workdir=demo --overwrite --launch=local_mp --num_workers=2 \
  --dataset=mnist5k --architecture=fc1 --support_size=10 --learn_labels --steps=60 \
  --target_batch_size=5000 --learning_rate=0.04
echo
echo "Open demo/report.html. To evaluate the set again from its files:"
echo "  $1/kipper evaluate --distilled=demo/distilled.npz"
