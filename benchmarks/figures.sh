#!/bin/bash
# The runs behind the accuracies of docs/results.md for convolutional kernels at full size, each for quiet cores, one at
# a time. The same command again continues a run that was stopped.
#
#   CIFAR10=DIR MNIST=DIR OUT=runs/figures benchmarks/figures.sh RUN [SEED] [FLAG …]
#
# RUN is one of
#   cifar10         ten images of CIFAR-10, ZCA, labels learned: an hour on two cores
#   cifar10_paper   as many pairs by the paper's loss, at a rate of 0.08 that falls as half a cosine
#   mnist           ten images of MNIST, labels learned: half an hour
#   fashion_mnist   the same of Fashion-MNIST (FASHION_MNIST=DIR)
#   cifar10_100     a hundred images of CIFAR-10: three hours
# SEED is 0 by default. Flags are those of `kipper distill` and win, such as --steps=4.
#
# Steps follow from seconds on two idle cores: 5,100 pairs of a step take 1.45 s at 32x32x3 and 0.8 s at 28x28x1, and an
# evaluation on 10,000 test and 5,000 held-out images 10 s and 7 s for ten images, of which there are 26.
set -eu
run=${1:?RUN, as the head of this script says}; shift
seed=0
if [[ ${1-} =~ ^[0-9]+$ ]]; then seed=$1; shift; fi
out=${OUT:-runs/figures}

distill() {  # NAME FLAG…
  local name=$1; shift
  python -m kipper distill --workdir="$out/$name-$seed" --seed="$seed" --architecture=convnet --learn_labels \
    --dashboard=none --verify_fraction=0 "$@"
}

case $run in
  cifar10)
    distill cifar10 --dataset=cifar10 --data_dir="$CIFAR10" --preprocess=zca --support_size=10 \
      --recipe=fast --optimiser=soap --target_batch_size=256 --steps=4300 "$@" ;;
  cifar10_paper)
    distill cifar10-paper --dataset=cifar10 --data_dir="$CIFAR10" --preprocess=zca --support_size=10 \
      --recipe=paper --learning_rate=0.08 --schedule=cosine --schedule_steps=2200 --steps=2200 "$@" ;;
  mnist)
    distill mnist --dataset=mnist --data_dir="$MNIST" --support_size=10 \
      --recipe=fast --target_batch_size=256 --steps=3800 "$@" ;;
  fashion_mnist)
    distill fashion-mnist --dataset=fashion_mnist --data_dir="$FASHION_MNIST" --support_size=10 \
      --recipe=fast --target_batch_size=256 --steps=3800 "$@" ;;
  cifar10_100)
    distill cifar10-100 --dataset=cifar10 --data_dir="$CIFAR10" --preprocess=zca --support_size=100 \
      --recipe=fast --target_batch_size=500 --steps=600 --eval_every=100 "$@" ;;
  *) echo "$run is none of the runs in the head of this script" >&2; exit 2 ;;
esac
