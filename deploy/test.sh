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
# shellcheck disable=SC2086 # a list of packages
go test -race -tags faults -count=1 -run '^$' $packages >/dev/null || exit 1
compiled=$(date +%s)

echo "running the tests"
# shellcheck disable=SC2086
go test -race -tags faults -count=1 -timeout "${TIMEOUT:-12m}" ${TESTFLAGS:-} $packages
status=$?
ended=$(date +%s)
echo "compiled in $((compiled - began)) s, tested in $((ended - compiled)) s"
exit $status
