#!/usr/bin/env bash
# Sets up .venv on the first start, then opens the nine doors one after the other. ./run.sh --help tells the rest.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
    cat <<'END'
  ./run.sh                      the demo: nine doors, one after the other
  ./run.sh --images my_photos   your own photos: guie train my_photos

usage: ./run.sh [options]           from raw images to submission.zip
       ./run.sh COMMAND [options]   a command of guie: ./run.sh guie lists them
       ./run.sh --images FOLDER     guie train FOLDER; with --look: guie look
                                    FOLDER, which trains nothing

Without options it draws a small set of images itself and runs the recipe demo
on it: six to ten minutes on two cores. The first start installs what is needed
into .venv (3 to 5 minutes, 7 GB); later starts begin at once. A door whose
inputs and settings have not changed is skipped, so after an interruption just
start again. What is finished with other settings is never replaced unasked.

  --recipe NAME|FILE.py   what to do: a recipe below, or the path of your own
                          file that defines RECIPE (default: demo)
  --name NAME             of the run: results go to FOLDER/NAME of --out
                          (default: the recipe's name)
  --data-root FOLDER      where the raw data sets lie (default: GUIE_DATA, or
                          ./data)
  --out FOLDER            results go to FOLDER/<recipe> (default: GUIE_OUT, or
                          artifacts/ of the project)
  --licence commercial    keep only data sets whose licence is known to allow
                          commercial use
  --set FIELD=VALUE       change one field, e.g. --set seed=1 or --set
                          stages.s1_head.optim.n_epochs=5; repeatable
  --replace               put results in place of finished ones that were made
                          with other settings
  --device DEVICE         cpu, cuda, cuda:1, or auto (default): the first
                          accelerator, else the CPU
  --scheduler ADDRESS     check and pack the images on the workers of this
                          dask.distributed scheduler
  --tracker NAME          where the curves of the training go: tensorboard
                          (default), wandb or mlflow
  --limit-hours HOURS     what the contest's images may take at this machine's
                          speed (default: 9); more is told, and is no failure
  --from N, --to N        open only the doors from N to N (1 to 9)
  --force                 do each of these doors again even if it is done
  --verify                compare the bytes of finished outputs with those that
                          were written, not only sizes and times
  -h, --help              this text

END
    echo "Recipes:"
    local file first_sentence='1{s/^"""[a-z0-9_]*: //;s/\. [A-Z].*//;s/\.\("""\)*$//;p}'
    for file in "$here"/src/guie/recipes/[a-z]*.py; do
        # The first sentence of the recipe's docstring, without its name.
        printf '  %-22s  ' "$(basename "$file" .py)"
        wrapped "$(sed -n "$first_sentence" "$file")"
    done
    printf '\nDoors:\n'
    for file in "$here"/data_prep/0[0-9]_*.py "$here"/src/0[0-9]_*.py; do
        printf '  %s\n' "${file#"$here"/}"
    done
}

wrapped() { # the text in lines of at most 54 characters, the later ones as far in as the text of --help
    local line='' word words
    read -ra words <<<"$1"
    for word in "${words[@]}"; do
        if [ -n "$line" ] && [ $((${#line} + 1 + ${#word})) -gt 54 ]; then
            printf '%s\n%26s' "$line" ''
            line=$word
        else
            line=${line:+$line }$word
        fi
    done
    printf '%s\n' "$line"
}

refuse() {
    printf 'error: %s; ./run.sh --help lists the options\n' "$*" >&2
    exit 2
}

# --images FOLDER is short for two commands of guie: train FOLDER, or with --look: look FOLDER
words=("$@")
images=
command=train
rest=()
for ((i = 0; i < ${#words[@]}; i++)); do
    case ${words[i]} in
        --images=* | --images)
            [ -z "$images" ] || refuse "--images stands twice; name one folder"
            if [ "${words[i]}" = --images ]; then
                i=$((i + 1))
                images=${words[i]-}
            else
                images=${words[i]#*=}
            fi
            [ -n "$images" ] || refuse "--images needs a value"
            ;;
        --look) command=look ;;
        *) rest+=("${words[i]}") ;;
    esac
done
if [ -n "$images" ]; then
    set -- "$command" "$images" ${rest[@]+"${rest[@]}"}
elif [ "$command" = look ]; then
    refuse "--look needs --images FOLDER"
fi

case ${1-} in
    guie | look | train | search | export | refit | foreign | evaluate | report) # commands of guie
        # shellcheck source=.ci/setup.sh
        source "$here/.ci/setup.sh"
        set_up run
        [ "$1" != guie ] || shift
        PYTHONUTF8=1 exec "$venv/bin/python" -P -m guie "$@"
        ;;
esac

recipe=demo
out=${GUIE_OUT:-$here/artifacts}
first=1
last=9
options=() # for every door
sets=()
limit=()
while [ $# -gt 0 ]; do
    case $1 in
        --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    case $1 in
        -h | --help) usage && exit ;;
        --force | --verify | --replace) options+=("$1") && shift && continue ;;
        --recipe | --name | --out | --data-root | --set | --licence | --device | --scheduler | --tracker | \
            --limit-hours | --from | --to)
            [ $# -ge 2 ] || refuse "$1 needs a value"
            ;;
        *) refuse "no option $1" ;;
    esac
    case $1 in
        --recipe) recipe=$2 ;;
        --out) out=$2 ;;
        --set) sets+=("$2") ;;
        --licence) sets+=("data.licence=$2") ;;
        --name) sets+=("name=$2") ;;
        --limit-hours)
            [[ $2 =~ ^[0-9]+(\.[0-9]+)?$ ]] || refuse "--limit-hours is $2, must be a number"
            limit=("$1" "$2")
            ;;
        --from | --to) [[ $2 =~ ^[1-9]$ ]] || refuse "$1 is $2, must be 1 to 9" ;;&
        --from) first=$2 ;;
        --to) last=$2 ;;
    esac
    case $1 in
        --data-root | --name | --set | --licence | --device | --scheduler | --tracker) options+=("$1" "$2") ;;
    esac
    shift 2
done
[ "$first" -le "$last" ] || refuse "--from $first is after --to $last"
options+=(--recipe "$recipe" --out "$out")

# shellcheck source=.ci/setup.sh
source "$here/.ci/setup.sh"
set_up run
python=$venv/bin/python

export PYTHONUTF8=1 # file names and logs are UTF-8 whatever the shell's language

# Before any door: does the recipe exist, and does it take these fields?
found=$("$python" -P -m guie.sequence recipe "$recipe" ${sets[@]+"${sets[@]}"}) || exit
read -r name min_cosine val_by dim <<<"$found"

seconds_since() { # with one decimal; $1 is an earlier $EPOCHREALTIME
    awk -v from="${1/,/.}" -v to="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f", to - from }'
}

began=$EPOCHREALTIME
times=()
for door in "$here"/data_prep/0[1-9]_*.py "$here"/src/0[1-9]_*.py; do
    number=$(basename "$door" | cut -c 2)
    if [ "$number" -lt "$first" ] || [ "$number" -gt "$last" ]; then
        continue
    fi
    door_began=$EPOCHREALTIME
    "$python" "$door" "${options[@]}" || {
        status=$?
        advice="the error above says what to do. Then the run goes on from here."
        printf '\n%s stopped with status %d; %s\n' "$(basename "$door")" "$status" "$advice" >&2
        exit "$status"
    }
    times+=("$(printf '%8s s  %s' "$(seconds_since "$door_began")" "$(basename "$door" .py)")")
    echo
done

if [ "$last" = 9 ]; then
    if [ "$val_by" = image ]; then
        echo "Scores on images that were held back, of classes that were trained on:"
    else
        echo "Scores on classes that training never saw:"
    fi
    "$python" -P -m guie.sequence scores "$out/$name/07_embeddings/scores.csv"
    echo
fi
checked=0
if [ "$last" -ge 8 ]; then
    zip=$out/$name/08_export/submission.zip
    if [ "$dim" = 64 ]; then
        echo "What Kaggle would load:"
        parity=$out/$name/08_export/parity
        checker=$here/submission/check_submission.py
        rules=(--expected "$parity" --min-cosine "$min_cosine" ${limit[@]+"${limit[@]}"})
        "$python" "$checker" "$zip" "${rules[@]}" || checked=$?
        echo
    fi
fi
echo "Times:"
printf '%s\n' "${times[@]}"
printf '%8s s  in all\n' "$(seconds_since "$began")"
if [ "$last" -ge 8 ]; then
    refused=
    [ "$dim" = 64 ] || refused=", not for the contest: of $dim numbers, and it takes 64 alone"
    case $checked in
        0) ;;
        4) # too slow for the limit here, which says little of the scorer's machine: the submission can be handed in
            refused=", over the time limit at this machine's speed"
            checked=0
            ;;
        *) refused=", which the check above refuses" ;;
    esac
    printf '\nSubmission: %s%s\n' "$zip" "$refused"
fi
if [ "$last" = 9 ]; then
    printf 'Report:     %s\n' "$out/$name/09_report/index.html"
fi
exit "$checked" # the check of the submission has said why it is not 0
