#!/usr/bin/env bash
# Runs all tests and prints how long compiling and testing took, each for itself. The servers that the tests share are
# stopped at the end, also when a test fails.
set -uo pipefail
cd "$(dirname "$0")/.."

packages=$(go list ./...) || exit 1
# The race detector would wait a second at the end of each package's tests.
export GORACE="atexit_sleep_ms=20 ${GORACE:-}"
trap 'go run ./cluster/local/servers/keeper stop >/dev/null 2>&1' EXIT

echo "compiling the tests"
began=$(date +%s)
go vet -tags faults ./... || exit 1
# All that the tests consist of, but for linking, whose results Go does not keep.
# shellcheck disable=SC2086 # a list of packages
go list -race -tags faults -test -export -f '{{""}}' $packages >/dev/null || exit 1
compiled=$(date +%s)

# One package's tests after the other: some wait for what must come in time, others count what a shared server does. The
# next one is linked meanwhile, so the time shown for a package may include its wait. (-o: servers that tests leave running
# would hold the turn.)
turns=(-p 1)
if command -v flock >/dev/null; then
  mkdir -p .lockstep
  turns=(-p 2 -exec "flock -o '$PWD/.lockstep/tests'")
fi
echo "running the tests"
# shellcheck disable=SC2086
go test -vet=off -race -tags faults -count=1 -timeout "${TIMEOUT:-12m}" "${turns[@]}" ${TESTFLAGS:-} $packages
status=$?
ended=$(date +%s)
echo "compiled in $((compiled - began)) s, tested in $((ended - compiled)) s"
exit $status
