#!/usr/bin/env bash

#SBATCH -J apero-20260101T000000-1
#SBATCH -p short
#SBATCH -A rrg-x
#SBATCH -n 1
#SBATCH --cpus-per-task=4
#SBATCH --mem=2G
#SBATCH -t 01:00:00
#SBATCH --no-requeue
#SBATCH --output="/at work/jobs/%x-%j.log"
#SBATCH --qos=long
module load python
ulimit -n 4096
export OMP_NUM_THREADS=4
export OPENBLAS_NUM_THREADS=4
export MKL_NUM_THREADS=4
export NUMEXPR_NUM_THREADS=4
export NUMBA_NUM_THREADS=4
export DASK_DISTRIBUTED__WORKER__PRELOAD='['"'"'apero_dask.engine.worker_process'"'"']'
export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False
export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False
export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False
export APERO_KERNEL_CACHE="/var/tmp/kernels"
mkdir -p "$SLURM_TMPDIR/dask"
'/opt/my python/bin/python' -m apero_dask.engine.worker_process c0de || exit 1
'/opt/my python/bin/python' -m distributed.cli.dask_worker tcp://127.0.0.1:PORT --name dummy-name --nthreads 1 --memory-limit 1.86GiB --nanny --death-timeout 300 --local-directory "$SLURM_TMPDIR/dask" --host 127.0.0.1 --no-dashboard --dashboard-address 127.0.0.1:0 --resources 'memory_mb=1300 threads=4'
