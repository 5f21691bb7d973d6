#!/usr/bin/env bash

#SBATCH -J apero-20260101T000000-1
#SBATCH -n 1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH -t 01:00:00
#SBATCH --no-requeue
#SBATCH --output="/at work/jobs/%x-%j.log"
export OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export MKL_NUM_THREADS=1
export NUMEXPR_NUM_THREADS=1
export NUMBA_NUM_THREADS=1
export DASK_DISTRIBUTED__WORKER__PRELOAD='['"'"'apero_dask.engine.worker_process'"'"']'
export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False
export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False
export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False
/opt/python -m apero_dask.engine.worker_process c0de || exit 1
/opt/python -m distributed.cli.dask_worker tcp://127.0.0.1:PORT --name dummy-name --nthreads 1 --memory-limit 1.86GiB --nanny --death-timeout 300 --host 127.0.0.1 --no-dashboard --dashboard-address 127.0.0.1:0 --resources 'memory_mb=1300 threads=1'
