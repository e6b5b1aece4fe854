#!/usr/bin/env bash
# Checks formatting and runs the linters of .golangci.yml over the main module. The tools are a module of their own, so
# that what they depend on is not what a node depends on; they are compiled once, and again when their versions change.
# Arguments are packages; the default is all of them.
set -uo pipefail
cd "$(dirname "$0")/.."

bin=.lockstep/bin
mkdir -p "$bin" || exit 1

wanted=$( (cat deploy/tools/go.mod deploy/tools/go.sum; go env GOVERSION) | git hash-object --stdin)
if [[ $(cat "$bin/lint.version" 2>/dev/null) != "$wanted" ]]; then
  echo "compiling gofumpt and golangci-lint, once (some minutes)"
  began=$(date +%s)
  (cd deploy/tools && go build -o "../../$bin/" tool) || exit 1
  echo "$wanted" >"$bin/lint.version"
  echo "compiled in $(($(date +%s) - began)) s"
fi

status=0
mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.go')
existing=()
for file in "${files[@]}"; do
  [[ -f $file ]] && existing+=("$file")
done
badly=$("$bin/gofumpt" -l "${existing[@]}") || exit 1
if [[ -n $badly ]]; then
  echo "not formatted; run $bin/gofumpt -w on:"
  echo "$badly"
  status=1
fi

"$bin/golangci-lint" run --build-tags faults,k6 "${@:-./...}" || status=1
exit $status
