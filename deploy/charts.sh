#!/usr/bin/env bash
# Holds the Helm chart to Helm's own judgement: lint, templates, schema, and each object as strictly as Kubernetes reads it.
# What is rendered is kept in deploy/helm/rendered, which quick tests look into; `deploy/charts.sh --write` renews it.
# Helm is a module of its own and is compiled once, which takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$PWD/.lockstep/bin chart=deploy/helm/lockstep
mkdir -p "$bin"
(cd deploy/tools/helm && go build -o "$bin/" tool && go build -o "$bin/" ./manifests)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

for values in least full; do
  file=$chart/ci/$values-values.yaml
  "$bin/helm" lint --strict --quiet "$chart" -f "$file"
  "$bin/helm" template pay "$chart" --namespace payments --kube-version 1.30.0 -f "$file" >"$made/$values.yaml"
  "$bin/manifests" <"$made/$values.yaml"
  [[ ${1-} != --write ]] || cp "$made/$values.yaml" deploy/helm/rendered/
  diff -u "deploy/helm/rendered/$values.yaml" "$made/$values.yaml" || { echo "charts: run deploy/charts.sh --write"; exit 1; }
done

# refused WHAT VALUE...: the schema, or the chart, says no to values that would do harm, and says why.
refused() {
  local why=$1
  shift
  local said
  if said=$("$bin/helm" template pay "$chart" -f "$chart/ci/least-values.yaml" "$@" 2>&1); then
    echo "charts: $* is accepted"
    exit 1
  fi
  grep -q -- "$why" <<<"$said" || { echo "charts: $* is refused with: $said"; exit 1; }
}
refused config/secret --set config.secret=0123456789012345678901234567890123
refused config/mysql/source --set config.mysql.source=u:p@tcp
refused image/tag --set image.tag=latest
refused replicas --set replicas=1
refused colour --set colour=red
refused peers --set 'peers[0].id=beta,peers[0].url=http://pay.beta.example,peers[0].jwks=x'
refused "would cut requests" --set config.drain=30s
refused config/system --set config.system=Events
echo "charts: sound"
