#!/usr/bin/env bash
# Make datasets/ at the project root: a real directory with one symbolic link per folder inside FOLDER.
#
#   bash scripts/link_datasets.sh [FOLDER]      without FOLDER: ../shared/data beside the checkout
#
# datasets/ is a directory of links, not one link, so that prepared data can be written into it without touching
# FOLDER. Repeating the command changes nothing; another FOLDER moves the links of the names they share. The
# environment variable DYNQ_DATASETS names another place than datasets/.
set -euo pipefail

fail() {
    echo "link_datasets.sh: $1" >&2
    exit 2
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${DYNQ_DATASETS:-$root/datasets}"

[ $# -le 1 ] || fail "expected one folder, got $# arguments."
if [ $# -eq 1 ]; then
    [ -d "$1" ] || fail "'$1' is not a folder; name the one that holds benchmarks/, calibration/, train/, ..."
    source="$(cd "$1" && pwd)"
else
    [ -d "$root/../shared/data" ] || fail "no ../shared/data beside the checkout; name the folder that holds the data."
    source="$(cd "$root/../shared/data" && pwd)"
fi

[ ! -L "$target" ] || fail "$target is itself a link; remove it, so that a directory can take its place."
[ ! -e "$target" ] || [ -d "$target" ] || fail "$target is a file; move it away."
[ ! "$source" -ef "$target" ] || fail "'$source' is the datasets folder itself; name the folder that holds the data."

# Everything is checked before anything is linked, so that a refusal leaves datasets/ as it was.
children=()
for child in "$source"/*/; do
    child="${child%/}"
    [ -d "$child" ] || continue
    place="$target/$(basename "$child")"
    [ -L "$place" ] || [ ! -e "$place" ] || fail "$place already exists and is not a link; move it away."
    children+=("$child")
done
[ ${#children[@]} -gt 0 ] || fail "'$source' holds no folders to link."

mkdir -p "$target"
for child in "${children[@]}"; do
    place="$target/$(basename "$child")"
    [ "$(readlink "$place" 2>/dev/null || true)" = "$child" ] || ln -sfn "$child" "$place"
done
echo "$target: ${#children[@]} folders of $source"
