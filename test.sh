#!/usr/bin/env bash
# ./test.sh [--quick | --all] [arguments of pytest]: sets up .venv on the first start, then ruff, mypy and the tests.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
    cat <<'END'
./test.sh [--quick | --all] [arguments of pytest]

Checks the code (ruff, mypy) and runs the tests, in as many processes as there are cores (at most four). The first start
installs what is needed into .venv (3 to 5 minutes, 7 GB).

  --quick     leave out the tests marked slow (the whole pipeline, killed processes)
  --all       also run the tests marked full (every recipe, many random kills)
  -h, --help  this text
  others      go to pytest, e.g. ./test.sh --quick tests/unit -k margin
END
}

arguments=()
chosen=(-m "not full")
for argument in "$@"; do
    case $argument in
        -h | --help) usage && exit ;;
        --quick) chosen=(-m "not full and not slow") ;;
        --all) chosen=() ;;
        *) arguments+=("$argument") ;;
    esac
done

# shellcheck source=.ci/setup.sh
source "$here/.ci/setup.sh"
set_up test
cd "$here"

failed=()
for check in "ruff check" "ruff format --check" mypy; do
    echo "== $check"
    # shellcheck disable=SC2086  # two words are meant
    "$venv"/bin/$check || failed+=("$check")
done
echo "== pytest"
[ ${#failed[@]} -eq 0 ] || printf 'FAILED before the tests: %s\n' "${failed[@]}"
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
spread=(-n $((cores < 4 ? cores : 4)) --dist loadscope --no-loadscope-reorder)
pytest=("$venv/bin/python" -m pytest "${spread[@]}" ${chosen[@]+"${chosen[@]}"} ${arguments[@]+"${arguments[@]}"})
"${pytest[@]}" && [ ${#failed[@]} -eq 0 ]
