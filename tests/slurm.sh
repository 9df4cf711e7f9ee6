#!/bin/bash
# A real SLURM of one node with two pretended GPUs, for test_slurm.py: Debian or Ubuntu, as root.
#
#     bash tests/slurm.sh start     install what is missing, start, wait until the node is idle
#     bash tests/slurm.sh stop      cancel the jobs, stop what `start` has started
#
# Configuration, state and logs are in /run/noise2noise-slurm, which is made anew; /etc/slurm
# is left alone. It listens on loopback only. To use it by hand:
#
#     export SLURM_CONF=/run/noise2noise-slurm/slurm.conf

set -u
folder=/run/noise2noise-slurm
export SLURM_CONF=$folder/slurm.conf
munge_pid=/run/munge/noise2noise.pid # in a folder that user munge can write to

fail() {
    echo "slurm.sh: $1" >&2
    exit 1
}

# poll SECONDS COMMAND...: until COMMAND succeeds; fails when it has not in that time.
poll() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

idle() { timeout 5 sinfo --noheader --format=%T | grep -qx idle; }
answers() { timeout 5 scontrol ping | grep -q UP && [ -n "$(timeout 5 sinfo --noheader)" ]; }
no_jobs() { [ -z "$(timeout 5 squeue --noheader 2>&1)" ]; }
munge_works() { timeout 5 munge -n | timeout 5 unmunge; }
gone() { ! kill -0 "$1"; }

# end PIDFILE NAME: end the process NAME that PIDFILE is of, and wait for it.
end() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || return 0
    kill "$pid"
    poll 20 gone "$pid" || fail "$2, process $pid, does not end"
}

install() {
    command -v slurmctld slurmd sbatch munged >/dev/null && [ "$(command -v munged slurmd | wc -l)" = 2 ] && return
    command -v apt-get >/dev/null || fail "SLURM is not installed and there is no apt-get to do it"
    export DEBIAN_FRONTEND=noninteractive
    local log=$folder/apt.log
    { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >"$log" 2>&1 </dev/null ||
        fail "apt-get could not install slurm-wlm and munge: $(tail -n 1 "$log") (all of it: $log)"
}

configure() {
    local host
    host=$(uname -n)
    host=${host%%.*}
    mkdir -p "$folder/state" "$folder/spool"
    cat >"$SLURM_CONF" <<END
ClusterName=noise2noise
SlurmctldHost=$host(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Two jobs at a time on any machine; sched_interval and the like start jobs at once.
SlurmdParameters=config_overrides
GresTypes=gpu
# Fast ends; a finished job stays known for a while, there being no accounting.
KillWait=5
OverTimeLimit=0
MinJobAge=600
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Gres=gpu:2
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    printf 'Name=gpu File=%s\n' /dev/null /dev/zero >"$folder/gres.conf"
}

start() {
    [ "$(id -u)" = 0 ] || fail "only root can start SLURM's daemons"
    [ -e /etc/slurm/slurm.conf ] && fail "/etc/slurm/slurm.conf is there: this machine has a SLURM of its own"
    mkdir -p "$folder" || fail "cannot make $folder"
    install
    if ! answers; then
        stop
        configure
        if ! munge_works; then
            mkdir -p /run/munge && chown munge: /run/munge || fail "cannot make /run/munge for user munge"
            runuser -u munge -- munged --pid-file="$munge_pid" || fail "munged does not start: see /var/log/munge"
            poll 10 munge_works || fail "munged does not answer: see /var/log/munge"
        fi
        slurmctld -c || fail "slurmctld does not start: see $folder/slurmctld.log"
        slurmd || fail "slurmd does not start: see $folder/slurmd.log"
        poll 60 idle || fail "the node is not idle after 60 s: see the logs in $folder"
    fi
    echo "SLURM $(sinfo --version | cut -d' ' -f2) answers: export SLURM_CONF=$SLURM_CONF"
}

stop() {
    if [ -e "$SLURM_CONF" ] && answers; then
        scancel --quiet --user=root
        poll 30 no_jobs || echo "slurm.sh: jobs are left: $(squeue --noheader)" >&2
    fi
    end "$folder/slurmd.pid" slurmd
    end "$folder/slurmctld.pid" slurmctld
    end "$munge_pid" munged
}

case ${1:-} in
    start) start ;;
    stop) stop && echo "SLURM is stopped; its logs are in $folder" ;;
    *) fail "bash tests/slurm.sh start, or stop" ;;
esac
