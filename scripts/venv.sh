# Sourced by the scripts that need a virtual environment of Python.

# venv DIR FILE COMMAND...: makes DIR one with just the packages that FILE lists, by wheels, and has COMMAND complete or check it.
# Made again only when FILE changes.
venv() {
  local dir=$1 file=$2
  shift 2
  cmp -s "$dir/made" "$file" && return
  printf '\n== Python packages into %s\n' "$dir"
  rm -rf "$dir"
  python3 -m venv "$dir"
  echo '*' >"$dir/.gitignore"
  "$dir/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r "$file"
  "$@"
  cp "$file" "$dir/made"
}
