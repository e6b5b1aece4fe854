import http from 'k6/http';
import { sleep } from 'k6';

import { cluster } from './cluster.js';

// The control address of the local cluster: k6 cannot start or stop processes, but its supervisor can.
function ask(method, path) {
  const answer = http.request(method, cluster.control_url + path, null, {
    headers: { Authorization: `Bearer ${cluster.control_token}` }, tags: { name: 'control' }, responseType: 'text', timeout: '90s',
  });
  if (answer.status !== 200) {
    throw new Error(`control: ${method} ${path}: ${answer.status} ${answer.error} ${answer.body}`);
  }
  return JSON.parse(answer.body);
}

// control applies a verb to a process: kill, stop, cont, start or restart; 'kill?down=1' keeps it down until start.
export function control(verb, process) {
  ask('POST', `/processes/${process}/${verb}`);
}

export function flush(redis) {
  ask('POST', `/redis/${redis}/flush`);
}

export function processes() {
  return ask('GET', '/processes').processes;
}

// heal makes all processes run, and waits until they do.
export function heal(patience = 60) {
  const until = Date.now() + patience * 1000;
  processes().filter((p) => p.state === 'frozen').forEach((p) => control('cont', p.name));
  for (;;) {
    const waiting = processes().filter((p) => p.state !== 'running');
    if (waiting.length === 0) {
      return;
    }
    if (Date.now() > until) {
      throw new Error(`not running after ${patience} s: ${waiting.map((p) => `${p.name} is ${p.state}`).join(', ')}`);
    }
    sleep(0.3);
  }
}
