#!/usr/bin/env bash
# The newcomer's path on a fresh machine: a minimal Debian 12 made by debootstrap, git and make, and then what the
# README says. Not part of `make test`: it needs root, a Debian mirror and some minutes.
#
# usage: tests/e2e/clean_root.sh [--root DIR] [--mirror URL] [--copy FILE]... STEP...
#
#   STEP    demo    make demo, whose closing line must say PASS
#           test    make test, whose last line must count no failure
#           ci      .ci/run, the same as CI runs it
#           deb     make deb here, install the package there by apt-get, run its programs
#   --root  keep the root there and use it again; without it, it is made in a temporary folder and removed
#   --copy  a file of this machine that the root needs too (package index settings, certificates)
#
# The commit that is checked out is cloned; what is not committed is not tested.
set -euo pipefail
cd "$(dirname "$0")/../.."

mirror=http://deb.debian.org/debian
root= keep=no
copies=() steps=()
while [ $# -gt 0 ]; do
    case $1 in
    --root) root=$(realpath -m "$2") keep=yes && shift 2 ;;
    --mirror) mirror=$2 && shift 2 ;;
    --copy) copies+=("$(realpath -s "$2")") && shift 2 ;;
    demo | test | ci | deb) steps+=("$1") && shift ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
[ ${#steps[@]} -gt 0 ] || { echo "clean_root: name a step: demo, test, ci or deb" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "clean_root: needs root" >&2; exit 2; }

say() {
    echo "clean_root: $*"
}

# Nothing of this machine's environment but the way to the network.
inside() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        chroot "$root" /bin/bash -euc "$1"
}

leave() {
    for place in dev/shm dev proc; do
        mountpoint -q "$root/$place" && umount -l "$root/$place"
    done
    [ $keep = yes ] || rm -rf --one-file-system "$root"
}

make_root() {
    say "a minimal Debian 12 in $root"
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log"; exit 1; }
    rm -f "$root.log"
}

prepare() {
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev" && mount --make-rslave "$root/dev"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    local file
    for file in ${copies[@]+"${copies[@]}"}; do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
}

clone() {
    say "README line 1: git and make"
    inside 'apt-get -q update && apt-get -q install -y git make' >"$root/root/apt.log" 2>&1 ||
        { tail -n 20 "$root/root/apt.log"; exit 1; }
    git bundle create -q "$root/root/godwit.bundle" HEAD
    inside 'rm -rf /root/godwit && git -c advice.detachedHead=false clone -q /root/godwit.bundle /root/godwit'
    cloned=yes
    say "cloned $(git describe --always)"
}

# Shows the output as it comes and checks its last line.
run_and_expect() {
    local command=$1 wanted=$2 start=$SECONDS
    say "$command"
    inside "cd /root/godwit && $command" 2>&1 | tee "$root/root/step.log"
    tail -n 1 "$root/root/step.log" | grep -qE "$wanted" ||
        { say "FAIL: the last line of '$command' does not match '$wanted'"; exit 1; }
    say "$command: good after $((SECONDS - start)) s"
}

install_deb() {
    make deb
    cp build/godwit_*_amd64.deb "$root/root/"
    say "apt-get install ./$(basename build/godwit_*_amd64.deb)"
    inside 'apt-get -q update && apt-get -q install -y --no-install-recommends /root/godwit_*_amd64.deb' >"$root/root/apt.log" 2>&1 ||
        { tail -n 20 "$root/root/apt.log"; exit 1; }
    inside 'for p in godwit godwit-controller godwit-worker godwit-watch; do $p --version && $p --help >/dev/null; done
            [ "$(stat -c %U:%a /etc/godwit/cluster.key)" = godwit:600 ]
            [ "$(stat -c %U:%G:%a /etc/godwit)" = root:godwit:750 ]
            ! ls /etc/systemd/system/*/godwit* 2>/dev/null
            apt-get -q purge -y godwit >/dev/null
            [ ! -e /etc/godwit ] && [ ! -e /usr/bin/godwit ]'
    say "deb: installs, runs, is not enabled, and a purge leaves nothing"
}

[ -n "$root" ] || root=$(mktemp -d /tmp/godwit-root-XXXXXX)
mkdir -p "$root"
[ -e "$root/etc/debian_version" ] || make_root
trap leave EXIT
prepare
cloned=no
for step in "${steps[@]}"; do
    case $step in
    deb) install_deb ;;
    *) [ $cloned = yes ] || clone ;;&
    demo) run_and_expect 'make demo' '^demo: PASS ' ;;
    test) run_and_expect 'make test' '^[0-9]+ passed, 0 failed, [0-9]+ skipped$' ;;
    ci) run_and_expect '.ci/run' '^[0-9]+ passed, 0 failed, [0-9]+ skipped$' ;;
    esac
done
say "PASS: ${steps[*]}"
