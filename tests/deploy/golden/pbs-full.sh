#!/usr/bin/env bash

#PBS -N apero-20260101T000000-1
#PBS -q short
#PBS -A rrg-x
#PBS -l select=1:ncpus=4:mem=2000mb
#PBS -l walltime=01:00:00
#PBS -r n
#PBS -j oe
#PBS -o "/at work/jobs/"
#PBS -m n
cd '/at work'
export PYTHONPATH=/sources:/more
module load python
export OMP_NUM_THREADS=4
export OPENBLAS_NUM_THREADS=4
export MKL_NUM_THREADS=4
export NUMEXPR_NUM_THREADS=4
export NUMBA_NUM_THREADS=4
export DASK_DISTRIBUTED__WORKER__PRELOAD='['"'"'apero_dask.engine.worker_process'"'"']'
export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False
export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False
export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False
mkdir -p "$TMPDIR"
'/opt/my python/bin/python' -m apero_dask.engine.worker_process c0de || exit 1
'/opt/my python/bin/python' -m distributed.cli.dask_worker tcp://127.0.0.1:PORT --name dummy-name --nthreads 1 --memory-limit 1.86GiB --nanny --death-timeout 300 --local-directory "$TMPDIR" --host 127.0.0.1 --no-dashboard --dashboard-address 127.0.0.1:0 --resources 'memory_mb=1300 threads=4'
