#!/usr/bin/env bash
# Workers on a machine without a scheduler, in the folder of a launch.
#   detached.sh start ROOM CARDS…   one worker for each list of cards ("-": none), unless it runs already
#   detached.sh look ROOM           "2 running 4711", "2 ended 75", "2 cancelled", "2 lost"
#   detached.sh stop ROOM SECONDS
#   detached.sh keep ROOM NUMBER    the process that starts a worker again while it says that work is left
set -u
left=75 # work is left: run me again
killed=128     # and more: by a signal
most=${WORKER_REQUEUES:-100}
quick=60 # seconds; who ends sooner waits a while before he is started again

# when it began, and since which start of the machine: a number of a process is given twice
birth() {
    local about
    about=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    set -- ${about##*) }
    [ "$1" != Z ] && echo "${20}-$(cat /proc/sys/kernel/random/boot_id)"
}

running() { # NUMBER → its process
    local pid born
    read -r pid born <"$room/worker-$1.pid" 2>/dev/null || return 1
    [ "$(birth "$pid")" = "$born" ] && echo "$pid"
}

start() {
    local number cards pid tries
    mkdir -p "$room/log"
    rm -f "$room/cancelled"
    for number in $(numbers); do
        running "$number" >/dev/null || rm -f "$room/worker-$number".{pid,ended}
    done
    number=0
    for cards in "$@"; do
        number=$((number + 1))
        running "$number" >/dev/null && continue
        echo none yet >"$room/worker-$number.pid"
        if [ "$cards" = - ]; then unset CUDA_VISIBLE_DEVICES; else export CUDA_VISIBLE_DEVICES=$cards; fi
        setsid nohup bash "$0" keep "$room" "$number" </dev/null >>"$room/log/worker-$number.log" 2>&1 9>&- &
        pid=$!
        for tries in {1..100}; do
            running "$number" >/dev/null || [ -e "$room/worker-$number.ended" ] && break
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
    look
}

# all that were ever started here
numbers() {
    local file
    for file in "$room"/worker-*.pid; do
        file=${file##*/worker-}
        [ "$file" = '*.pid' ] || echo "${file%.pid}"
    done | sort -n
}

look() {
    local number pid
    for number in $(numbers); do
        if pid=$(running "$number"); then
            echo "$number running $pid"
        elif [ -e "$room/cancelled" ]; then
            echo "$number cancelled"
        elif [ -s "$room/worker-$number.ended" ]; then
            echo "$number ended $(cat "$room/worker-$number.ended")"
        else
            echo "$number lost"
        fi
    done
}

stop() {
    local number pid ends=$((SECONDS + $1))
    : >"$room/cancelled"
    for number in $(numbers); do
        pid=$(running "$number") && kill -TERM "$pid"
    done
    while look | grep -q ' running ' && [ "$SECONDS" -lt "$ends" ]; do sleep 0.2; done
    look
}

keep() {
    local number=$1 child='' code began tries=0 hasty=0 clock=''
    local limit=${WORKER_LAUNCH_LIMIT:-0} # seconds that all its starts may take together
    told=''
    trap 'told=yes; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT
    trap '' HUP
    echo "$$ $(birth $$)" >"$room/worker-$number.pid"
    cd "$room" || exit 2
    if [ "$limit" -gt 0 ]; then
        { sleep "$limit" && kill -TERM "$$"; } &
        clock=$!
    fi
    while :; do
        began=$SECONDS
        bash "$room/worker.sbatch" &
        child=$!
        [ -n "$told" ] && kill -TERM "$child" # told between the loop's head and here
        while :; do
            wait "$child"
            code=$?
            kill -0 "$child" 2>/dev/null || break # a signal to us ends a wait, not the child
        done
        child=''
        [ -n "$told" ] && break
        [ "$code" -eq "$left" ] || [ "$code" -gt "$killed" ] || break
        [ "$limit" -gt 0 ] && [ "$SECONDS" -ge $((limit - 1)) ] && break
        tries=$((tries + 1))
        [ "$tries" -gt "$most" ] && echo "worker $number: started $most times again, and work is left" && break
        if [ $((SECONDS - began)) -lt "$quick" ]; then hasty=$((hasty < 8 ? hasty + 1 : 8)); else hasty=0; fi
        echo "worker $number: ended with $code; it is started again"
        sleep $((hasty ? 1 << hasty : 0)) &
        wait $!
        [ -n "$told" ] && break
    done
    [ -n "$clock" ] && pkill -P "$clock" 2>/dev/null
    echo "$code" >"$room/worker-$number.ended.part"
    mv "$room/worker-$number.ended.part" "$room/worker-$number.ended"
}

verb=$1 room=$2
shift 2
case $verb in
    start | look | stop | keep) "$verb" "$@" ;;
    *) echo "detached.sh: no verb is called $verb" >&2 && exit 2 ;;
esac
