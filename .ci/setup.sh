# shellcheck shell=bash
# Sourced by run.sh and test.sh: `set_up run` or `set_up test` makes .venv and installs what is needed, once.
#
# Two marks tell how far .venv is:
#   .venv/.installing      packages are being written, or that was cut off: the next start begins anew
#   .venv/.installed-run   finished; holds the hash of all that decides what is installed
#   .venv/.installed-test  the same, with the tools of the tests

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$project/.venv
need_gb=10 # 6.9 measured for the packages, 3 for their archives while they are unpacked

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Prints the first Python that can build the environment.
find_python() {
    local name version lacks_venv=""
    local print_version='import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")'
    for name in python3.13 python3.12 python3.11 python3; do
        # Only running it tells: a pyenv shim also exists for versions that are switched off.
        version=$("$name" -c "$print_version" 2>/dev/null) || continue
        [ -n "$version" ] || continue
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$name"
            return
        fi
        lacks_venv=${lacks_venv:-$version}
    done
    [ -z "$lacks_venv" ] ||
        die "Python $lacks_venv cannot make a virtual environment; run: sudo apt-get install python$lacks_venv-venv"
    die "no Python 3.11 or newer found; run: sudo apt-get install python3 python3-venv" \
        "(on Ubuntu 22.04: python3.11 python3.11-venv)"
}

free_mb() {
    df -Pm "$project" | awk 'NR == 2 { print $4 }'
}

# Shows, of pip's many lines, the large downloads and where the unpacking begins.
show_progress() {
    local line large='(Downloading|Using cached) ([^ ]+) \(([0-9]{3,}\.[0-9] MB|[0-9.]+ GB)\)'
    while IFS= read -r line; do
        if [[ $line =~ $large ]]; then
            printf '  %s  %s\n' "${BASH_REMATCH[3]}" "${BASH_REMATCH[2]##*/}"
        elif [[ $line == "Installing collected packages"* ]]; then
            echo "  unpacking, about a minute"
        fi
    done
}

# Why pip failed, in one line; its own words stay in the log.
why_pip_failed() {
    local offline='NewConnectionError|NameResolutionError|ProxyError|SSLError|ConnectTimeout|IncompleteRead'
    offline+='|Temporary failure in name resolution|Name or service not known|Read timed out|Network is unreachable'
    offline+='|Connection (refused|reset|broken|aborted)'
    if grep -qE 'No space left|Errno 28|Errno 122' "$1" || [ "$(free_mb)" -lt 100 ]; then
        echo "the disk is full at $project; free $need_gb GB and start again"
    elif grep -qE "$offline" "$1"; then
        echo "the packages cannot be fetched; check the network (HTTPS_PROXY and PIP_INDEX_URL, if you need them)" \
            "and start again. Details: $1"
    else
        echo "pip cannot install the packages: $(grep -m 1 '^ERROR' "$1" || tail -n 1 "$1"). Details: $1"
    fi
}

install_packages() {
    local log=$venv/install.log
    local -a wanted=(-r requirements.txt)
    [ "$1" = run ] || wanted+=(-e '.[test]')
    [ "$(free_mb)" -ge $((need_gb * 1000 + 3000)) ] || wanted+=(--no-cache-dir) # pip's cache would take 3 GB more
    touch "$venv/.installing"
    rm -f "$venv"/.installed-*
    # pip unpacks several GB; /tmp is often a small disk in memory, so it gets a folder beside the packages.
    mkdir -p "$venv/.tmp"
    local -a pip=("$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off)
    pip+=(--retries 3 -c constraints.txt "${wanted[@]}")
    if (cd "$project" && TMPDIR=$venv/.tmp "${pip[@]}" 2>&1) | tee "$log" | show_progress; then
        rm -rf "$venv/.tmp" "$venv/.installing"
        return
    fi
    rm -rf "$venv/.tmp"
    # Nothing was written: what is there stays good.
    grep -q '^Installing collected packages' "$log" || rm "$venv/.installing"
    die "$(why_pip_failed "$log")"
}

make_venv() {
    local python
    python=$(find_python) || exit 1
    { mkdir "$venv" && touch "$venv/.installing"; } 2>/dev/null ||
        die "cannot write to $project; make it writable, or copy the project to another place"
    "$python" -m venv "$venv" >/dev/null || die "$python -m venv failed, see above"
}

# set_up run|test
set_up() {
    local hash
    exec 9<"$project"
    flock -n 9 || { echo "another start is setting up .venv; waiting for it" && flock 9; }
    hash=$({ echo "$project" && cat "$project"/{requirements.txt,constraints.txt,pyproject.toml}; } | sha256sum)
    if [ "$(cat "$venv/.installed-$1" 2>/dev/null)" != "$hash" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        local is_new='import pip, sys; sys.exit(sys.version_info < (3, 11))'
        if [ -e "$venv/.installing" ] || ! "$venv/bin/python" -c "$is_new" 2>/dev/null; then
            rm -rf "$venv"
        fi
        if compgen -G "$venv/lib/python3*/site-packages/torch" >/dev/null; then
            echo "bringing .venv up to date with the requirements"
        else
            [ "$(free_mb)" -ge $((need_gb * 1000)) ] ||
                die "only $(free_mb) MB are free at $project, the packages need $need_gb GB;" \
                    "free some space and start again"
            echo "installing the packages into .venv: 3 to 5 minutes and 7 GB, this once"
        fi
        [ -d "$venv" ] || make_venv
        install_packages "$1"
        echo "$hash" >"$venv/.installed-$1"
        [ "$1" = run ] || echo "$hash" >"$venv/.installed-run"
    fi
    exec 9<&- # or every door would hold the lock
}
