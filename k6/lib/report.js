// summary makes handleSummary: all numbers as JSON into OUT (default .lockstep/k6), and to the terminal what was done, and
// each threshold that does not hold with what it was held against.
//
// `relate` makes rules that k6 has no words for, since they hold one number against another: of all metrics' values it makes
// triples of a name, a value and the most that it may be. k6's own exit status knows nothing of them; k6/suite judges them.
export function summary(name, relate = () => []) {
  const dir = __ENV.OUT || '.lockstep/k6';
  return (data) => {
    for (const [rule, value, most] of relate((metric) => (data.metrics[metric] || { values: {} }).values)) {
      data.metrics[rule] = { type: 'gauge', values: { value }, thresholds: { [`value<=${most}`]: { ok: value <= most } } };
    }
    return { [`${dir}/${name}.json`]: JSON.stringify(data), stdout: text(name, data) };
  };
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
