JAX_LOG='a b' JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 SENTIDISTILL_COORDINATOR=localhost:8476 SENTIDISTILL_NUM_PROCESSES=2 SENTIDISTILL_PROCESS_ID=0 sentidistill train --config=configs/pod.py '--workdir=/data/it'"'"'s here' &
JAX_LOG='a b' JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 SENTIDISTILL_COORDINATOR=localhost:8476 SENTIDISTILL_NUM_PROCESSES=2 SENTIDISTILL_PROCESS_ID=1 sentidistill train --config=configs/pod.py '--workdir=/data/it'"'"'s here' &
wait
