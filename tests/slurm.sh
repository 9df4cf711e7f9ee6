#!/bin/bash
# A real SLURM of one node with two pretended GPUs, for test_slurm.py. Debian or Ubuntu, root.
#
#     bash tests/slurm.sh start     install what is missing, start, wait until the node is idle
#     bash tests/slurm.sh stop      cancel the jobs, and stop what `start` has started
#
# Configuration, state and logs are in /run/noise2noise-slurm; nothing is written to
# /etc/slurm, and it listens on loopback only. To use it by hand:
#
#     export SLURM_CONF=/run/noise2noise-slurm/slurm.conf

set -u
PATH=$PATH:/usr/sbin:/sbin
folder=/run/noise2noise-slurm
munge_pid=/run/munge/noise2noise.pid # where user munge can write
export SLURM_CONF=$folder/slurm.conf

fail() {
    echo "slurm.sh: $1" >&2
    exit 1
}

# poll SECONDS COMMAND...: wait until COMMAND succeeds; fail where it does not in that time.
poll() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

runs() { grep -q "^$2" "/proc/$(cat "$1")/cmdline"; } 2>/dev/null # PIDFILE NAME
ended() { ! runs "$@"; }
installed() { command -v munged && command -v slurmctld && command -v slurmd && command -v sbatch; } >/dev/null
idle() { [ "$(timeout 5 sinfo --noheader --format=%T)" = idle ]; }
no_jobs() { [ -z "$(timeout 5 squeue --noheader 2>&1)" ]; }
munge_works() { timeout 5 munge --no-input | timeout 5 unmunge; } >/dev/null 2>&1

# end PIDFILE NAME: end that process and wait for it.
end() {
    runs "$@" || return 0
    kill "$(cat "$1")"
    poll 20 ended "$@" || fail "$2 does not end"
}

configure() {
    local host
    host=$(uname -n)
    host=${host%%.*}
    mkdir -p "$folder/state" "$folder/spool" || fail "cannot make $folder"
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
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
# Jobs start and end without delay, and are remembered, there being no accounting.
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=5
OverTimeLimit=0
MinJobAge=600
# Two jobs of 4 CPUs at a time, on any machine.
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Gres=gpu:2
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    printf 'Name=gpu File=%s\n' /dev/null /dev/zero >"$folder/gres.conf"
}

start() {
    [ ! -e /etc/slurm/slurm.conf ] || fail "this machine has a SLURM of its own: /etc/slurm/slurm.conf"
    if ! installed; then
        command -v apt-get >/dev/null || fail "SLURM is not installed, and there is no apt-get to do it"
        local log=${TMPDIR:-/tmp}/noise2noise-slurm-apt.log
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update; apt-get install -y --no-install-recommends slurm-wlm munge; } >"$log" 2>&1 </dev/null
        installed || fail "apt-get did not install slurm-wlm and munge: see $log"
    fi
    if ! { runs "$folder/slurmctld.pid" slurmctld && runs "$folder/slurmd.pid" slurmd; }; then
        stop
        configure
        if ! munge_works; then
            mkdir -p /run/munge && chown munge: /run/munge || fail "cannot make /run/munge"
            runuser -u munge -- munged --pid-file="$munge_pid" || fail "munged does not start"
            poll 10 munge_works || fail "munged does not answer: see /var/log/munge/munged.log"
        fi
        slurmctld -c || fail "slurmctld does not start: see $folder/slurmctld.log"
        slurmd || fail "slurmd does not start: see $folder/slurmd.log"
        poll 60 idle || fail "the node is not idle after 60 s: see the logs in $folder"
    fi
    echo "SLURM $(sinfo --version | cut -d' ' -f2) runs: export SLURM_CONF=$SLURM_CONF"
}

stop() {
    if runs "$folder/slurmctld.pid" slurmctld; then
        timeout 5 scancel --quiet --user=root
        poll 30 no_jobs || echo "slurm.sh: some jobs do not end" >&2
    fi
    end "$folder/slurmd.pid" slurmd
    end "$folder/slurmctld.pid" slurmctld
    end "$munge_pid" munged
    rm -f "$SLURM_CONF"
}

[ "$(id -u)" = 0 ] || fail "only root can start and stop SLURM"
case ${1:-} in
    start) start ;;
    stop) stop && echo "SLURM is stopped; its logs are in $folder" ;;
    *) fail "say start or stop" ;;
esac
