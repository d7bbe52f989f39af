# Sourced by the scripts beside it: sets `root` (the checkout) and `venv`, and makes .venv where it is missing or out of
# date. A matching stamp, written last, says that it is whole; the usual call costs two short processes.

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
venv=$root/.venv

say() { printf 'zoo: %s\n' "$*" >&2; }

# What the environment was made from. A replaced Python or a moved checkout (paths are printed too) changes it.
made_from() {
    readlink -f -- "$venv/bin/python" || true
    cksum "$root/pyproject.toml" "$root/constraints.txt"
}

stamped() { [ -x "$venv/bin/zoo" ] && [ -f "$venv/stamp" ] && [ "$(<"$venv/stamp")" = "$(made_from)" ]; }

# A Python that runs, is of a version that all dependencies have wheels for, and can make environments.
find_python() {
    local candidate why tried='' candidates=(python3 python3.12 python3.11 python3.13)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if ! command -v -- "$candidate" >/dev/null; then
            why='not found'
        elif ! why=$("$candidate" -c 'import sys; print("Python %d.%d" % sys.version_info[:2])' 2>/dev/null); then
            why='does not run' # e.g. a pyenv shim of a version that is not switched on
        elif [[ ! $why =~ ^Python\ 3\.1[123]$ ]]; then
            why="is $why"
        elif ! "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            why="$why without its venv module"
        else
            command -v -- "$candidate"
            return
        fi
        tried+="${tried:+, }$candidate ($why)"
    done
    say "needs Python 3.11 to 3.13 with its venv module; tried $tried;" \
        "install one (Debian, Ubuntu: apt install python3 python3-venv) or name one with PYTHON=/path/to/python"
    return 2
}

# Held through descriptor 9, which pip inherits: a killed script whose pip goes on installing still holds the lock.
lock() {
    { exec 9>>"$root/.venv.lock"; } 2>/dev/null || { say "cannot write in $root, where .venv belongs"; exit 2; }
    local take='import fcntl, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try: fcntl.flock(9, fcntl.LOCK_EX | int(sys.argv[1]))
except BlockingIOError: sys.exit(1)'
    "$1" -c "$take" 4 || { # 4: LOCK_NB
        say "another command is making $venv; waiting for it"
        "$1" -c "$take" 0
    }
}

install() {
    local python=$1 log=$venv/install.log ticker failed=0
    # Only an environment once whole, of the same Python, is brought up to date in place; anything else starts afresh.
    if [ -x "$venv/bin/zoo" ] && [ "$(head -n 1 "$venv/stamp" 2>/dev/null)" = "$(made_from | head -n 1)" ]; then
        say "bringing $venv up to date"
        rm -f -- "$venv/stamp"
    else
        say "making $venv with $python; this takes a few minutes, once"
        rm -f -- "$venv/stamp"
        "$python" -m venv --clear "$venv" >&2 || { say "$python could not make $venv"; exit 2; }
    fi
    while sleep 15 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        say "installing, $SECONDS s: $(grep -E '^(Collecting|Installing)' "$log" | tail -n 1 | cut -c 1-80)"
    done 9>&- &
    ticker=$!
    trap 'kill $ticker 2>/dev/null' EXIT
    # The variables also bind what builds the package; they are relative, since pip splits them at spaces.
    (cd "$root" && PIP_USER=0 PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
        "$venv/bin/python" -m pip install --no-input --progress-bar off -e '.[dev]' >"$log" 2>&1) || failed=1
    kill $ticker 2>/dev/null
    trap - EXIT
    if [ $failed = 1 ]; then
        tail -n 5 "$log" >&2
        say "installing failed (above, its last lines; all of them: $log)"
        exit 1
    fi
    made_from >"$venv/stamp.new" && mv -- "$venv/stamp.new" "$venv/stamp"
    say "$venv is ready"
}

if ! stamped; then
    python=$(find_python)
    lock "$python"
    stamped || install "$python"
    exec 9>&-
fi
