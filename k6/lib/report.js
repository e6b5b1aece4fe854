// summary makes handleSummary: all numbers as JSON into OUT (default .lockstep/k6), and to the terminal what was done, and
// each threshold that does not hold with what it was held against.
export function summary(name) {
  const dir = __ENV.OUT || '.lockstep/k6';
  return (data) => ({ [`${dir}/${name}.json`]: JSON.stringify(data), stdout: text(name, data) });
}

function text(name, data) {
  const lines = [];
  let held = 0;
  for (const [metric, { values, thresholds }] of Object.entries(data.metrics)) {
    for (const [rule, { ok }] of Object.entries(thresholds || {})) {
      if (ok) {
        held++;
        continue;
      }
      const of = rule.match(/^\s*(avg|min|max|med|count|rate|value|p\([\d.]+\))/);
      const value = of ? values[of[1]] : undefined;
      lines.push(`  FAILED ${metric} ${rule}${value === undefined ? '' : `: ${Number(value.toFixed(3))}`}`);
    }
  }
  const count = (metric) => (data.metrics[metric] ? data.metrics[metric].values.count : 0);
  const seconds = (data.state.testRunDurationMs / 1000).toFixed(0);
  const done = `${count('paid')} acknowledged, ${count('refused')} refused, ${count('repeats')} repeated, ${count('broken')} without a good answer`;
  return `${name.padEnd(12)} ${seconds.padStart(3)} s  ${done}; ${held} thresholds hold, ${lines.length} do not\n${lines.map((l) => `${l}\n`).join('')}`;
}
