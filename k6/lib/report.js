// summary makes handleSummary: all numbers as JSON into OUT (default .lockstep/k6), and to the terminal each threshold with
// what it was held against.
export function summary(name) {
  const dir = __ENV.OUT || '.lockstep/k6';
  return (data) => ({ [`${dir}/${name}.json`]: JSON.stringify(data), stdout: text(name, data) });
}

function text(name, data) {
  const lines = [];
  for (const [metric, { values, thresholds }] of Object.entries(data.metrics)) {
    for (const [rule, { ok }] of Object.entries(thresholds || {})) {
      const of = rule.match(/^\s*(avg|min|max|med|count|rate|value|p\([\d.]+\))/);
      const value = of ? values[of[1]] : undefined;
      lines.push(`  ${ok ? 'ok    ' : 'FAILED'} ${metric} ${rule}${value === undefined ? '' : `: ${Number(value.toFixed(3))}`}`);
    }
  }
  const paid = data.metrics.paid ? data.metrics.paid.values.count : 0;
  const seconds = (data.state.testRunDurationMs / 1000).toFixed(1);
  return `${name}: ${paid} changes acknowledged, ${seconds} s with setup and teardown\n${lines.join('\n')}\n`;
}
