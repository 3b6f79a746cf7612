#!/usr/bin/env bash
# ./test.sh [--quick] [arguments of pytest]: sets up .venv on the first start, then ruff, mypy and all tests; --quick leaves out the slow ones.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
    cat <<'END'
./test.sh [--quick] [arguments of pytest]

Checks the code (ruff, mypy) and runs all tests, about 20 minutes on two cores. The first start installs what is needed into .venv (3 to 5
minutes, 6 GB).

  --quick     leave out the tests marked slow (the whole pipeline, killed processes)
  -h, --help  this text
  others      go to pytest, e.g. ./test.sh --quick tests/unit -k margin
END
}

arguments=()
for argument in "$@"; do
    case $argument in
        -h | --help) usage && exit ;;
        --quick) arguments+=(-m "not slow") ;;
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
"$venv/bin/python" -m pytest ${arguments[@]+"${arguments[@]}"} && [ ${#failed[@]} -eq 0 ]
