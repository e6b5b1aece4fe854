#!/usr/bin/env bash
# Compiles k6, once, and again when its version changes. k6 is a module of its own, so that what it depends on is not what
# a node depends on. Its scripts are in k6/; the arguments go to the program that runs them (k6/suite); `compile`
# alone ends here.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=.lockstep/bin
mkdir -p "$bin"

wanted=$( (cat deploy/tools/k6/go.mod deploy/tools/k6/go.sum; go env GOVERSION) | git hash-object --stdin)
if [[ ! -x $bin/k6 || $(cat "$bin/k6.version" 2>/dev/null) != "$wanted" ]]; then
  echo "compiling k6, once (some minutes)"
  began=$(date +%s)
  (cd deploy/tools/k6 && go build -o "../../../$bin/" tool)
  echo "$wanted" >"$bin/k6.version"
  echo "compiled in $(($(date +%s) - began)) s"
fi

if [[ $* == compile ]]; then
  exit 0
fi
exec go run -tags faults ./k6/suite "$@"
