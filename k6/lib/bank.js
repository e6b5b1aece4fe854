import { sleep } from 'k6';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';

import { call, found, post, signIn, surprise, token } from './api.js';
import { cluster, system } from './cluster.js';

export const currency = 'KRW'; // it has no decimals: amounts are minor units

const stuck = new Counter('stuck_money'); // on hold or promised when all is over
const requests = new Counter('node_requests'); // that each node answered
const memory = new Trend('node_memory_mib');
const audited = new Counter('audited'); // places that teardown looked at

// begin is the first thing in setup: tokens for the systems, and what their nodes have answered so far.
export function begin(ids) {
  const data = { tokens: {}, accounts: {}, served: {} };
  for (const id of ids) {
    data.tokens[id] = signIn(id, system(id).client);
    data.accounts[id] = [];
    data.served[id] = served(id);
  }
  return data;
}

// open opens an account for a place in the books, and puts money on it.
export function open(data, id, place, start, how = {}) {
  const opened = call(id, 'POST', '/v1/accounts', { body: { currency, label: place }, key: crypto.randomUUID(), token: token(data, id), ...how });
  if (!opened.ok) {
    throw new Error(`open an account: ${opened}`);
  }
  const account = { number: opened.json.number, place, start };
  data.accounts[id].push(account);
  if (start > 0) {
    const key = crypto.randomUUID();
    const put = call(id, 'POST', '/v1/deposits', { body: { account: account.number, amount: `${start}`, currency }, key, token: token(data, id), ...how });
    if (!put.ok) {
      throw new Error(`deposit: ${put}`);
    }
  }
  return account;
}

export function some(list) {
  return list[Math.floor(Math.random() * list.length)];
}

// two picks two different ones.
export function two(list) {
  const from = Math.floor(Math.random() * list.length);
  const to = (from + 1 + Math.floor(Math.random() * (list.length - 1))) % list.length;
  return [list[from], list[to]];
}

// amount is random, so that one loss and one gain do not look like nothing.
export function amount(most = 997) {
  return 1 + Math.floor(Math.random() * most);
}

export function transfer(data, id, from, to, minor, how = {}) {
  return post(data, id, '/v1/transfers', { from: from.number, to: to.number, amount: `${minor}`, currency }, {
    effects: [[from.place, -minor], [to.place, minor]], ...how,
  });
}

export function deposit(data, id, to, minor, how = {}) {
  return post(data, id, '/v1/deposits', { account: to.number, amount: `${minor}`, currency }, { effects: [[to.place, minor]], ...how });
}

export function withdraw(data, id, from, minor, how = {}) {
  return post(data, id, '/v1/withdrawals', { account: from.number, amount: `${minor}`, currency }, { effects: [[from.place, -minor]], ...how });
}

// holdAndEnd holds an amount, and then captures a part of it or lets it go.
export function holdAndEnd(data, id, from, to, minor, how = {}) {
  const hold = post(data, id, '/v1/holds', { account: from.number, amount: `${minor}`, currency, to: to.number }, how);
  if (!hold.ok) {
    return hold;
  }
  const part = amount(minor);
  if (minor % 3 === 0) {
    return post(data, id, `/v1/holds/${hold.json.id}/void`, {}, how);
  }
  return post(data, id, `/v1/holds/${hold.json.id}/capture`, { amount: `${part}` }, {
    ...how, effects: [[from.place, -part], [to.place, part]],
  });
}

// nobody is a number of the system that is well-formed and that no account has: check digits by ISO 7064 MOD 97-10 over
// what stands before them, letters counted from 10.
export function nobody(id) {
  const serial = '999999999999';
  let rest = 0;
  for (const c of `${id}${serial}`) {
    const value = parseInt(c, 36);
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97;
  }
  return `${id}-${serial}${`${98 - ((rest * 100) % 97)}`.padStart(2, '0')}`;
}

// read reads an account. `fresh` asks the source.
export function read(data, id, account, { fresh = true, ...how } = {}) {
  return call(id, 'GET', `/v1/accounts/${account.number}`, {
    ...how, token: how.token || token(data, id), headers: fresh ? { 'Cache-Control': 'no-cache', ...how.headers } : how.headers,
  });
}

// audit belongs into teardown: it adds what is found to what clients were told. It waits `patience` seconds for what is
// still on the way, such as a credit from another system.
export function audit(data, patience = 30) {
  const until = Date.now() + patience * 1000;
  for (const id of Object.keys(data.accounts)) {
    const operator = signIn(id, system(id).operator).value; // who sees the accounts of people, too
    for (const account of data.accounts[id]) {
      const balance = settledBalance(id, account, operator, until);
      found(account.place, Number(balance.posted) - account.start);
      stuck.add(Number(balance.pending_debit) + Number(balance.pending_credit));
      audited.add(1);
    }
    balanced(id, operator, until);
    count(data, id);
  }
}

function settledBalance(id, account, operator, until) {
  for (;;) {
    const answer = read(null, id, account, { token: operator, patient: true });
    const balance = answer.json.balance;
    const pending = balance && Number(balance.pending_debit) + Number(balance.pending_credit) > 0;
    if (answer.ok && !pending) {
      return balance;
    }
    if (Date.now() > until) {
      if (!answer.ok) {
        throw new Error(`the balance of ${account.number} cannot be read: ${answer}`);
      }
      return balance;
    }
    sleep(0.2);
  }
}

// balanced requires that all entries of the system sum to zero. It sums all that were ever made, which takes a busy machine
// longer, now and then, than a node waits for its database.
function balanced(id, operator, until) {
  for (;;) {
    const trial = call(id, 'GET', '/v1/proofs/trial-balance', { token: operator, headers: { 'Cache-Control': 'no-cache' }, patient: true });
    if (!trial.ok && Date.now() < until) {
      sleep(0.2);
      continue;
    }
    if (!trial.ok || trial.json.balanced !== true) {
      surprise(`the trial balance of ${id}`, trial);
    }
    return;
  }
}

// metrics reads a node's numbers, summed over their labels; none when it does not answer.
export function metrics(adminURL) {
  const answer = http.get(`${adminURL}/metrics`, { tags: { name: 'GET metrics' }, responseType: 'text', timeout: '5s' });
  const sums = {};
  if (answer.status !== 200) {
    return sums;
  }
  for (const line of answer.body.split('\n')) {
    const [, name, value] = line.match(/^(\w+)(?:{.*})? (\S+)$/) || [];
    if (name) {
      sums[name] = (sums[name] || 0) + Number(value);
    }
  }
  return sums;
}

// noteMemory notes what the heaps and stacks of a system's nodes take.
export function noteMemory(id) {
  for (const url of system(id).admin_urls) {
    const numbers = metrics(url);
    if (numbers.go_memstats_heap_inuse_bytes) {
      memory.add((numbers.go_memstats_heap_inuse_bytes + numbers.go_memstats_stack_inuse_bytes) / (1 << 20));
    }
  }
}

function served(id) {
  return system(id).admin_urls.map((url) => metrics(url).lockstep_http_requests_total || 0);
}

// count notes how much each node answered since begin; a node that was started again counts from zero.
function count(data, id) {
  served(id).forEach((now, i) => {
    const before = data.served[id][i];
    requests.add(now >= before ? now - before : now, { node: `${id}-${i + 1}` });
  });
}

// common are the thresholds of every script: nothing unexpected, nothing undecided, every node at work, every place
// audited without a gap.
export function common(ids, places, more = {}) {
  const thresholds = {
    unexpected: ['count==0'], unresolved: ['count==0'], stuck_money: ['count==0'], broken: ['count==0'], audited: ['count>0'],
  };
  for (const s of cluster.systems.filter((one) => ids.includes(one.id))) {
    s.nodes.forEach((_, i) => {
      thresholds[`node_requests{node:${s.id}-${i + 1}}`] = ['count>0'];
    });
  }
  for (const place of places) {
    thresholds[`money_gap{place:${place}}`] = ['count==0'];
  }
  return { ...thresholds, ...more };
}

// settings are k6's options of every script.
export function settings(scenarios, thresholds) {
  return {
    scenarios, thresholds, setupTimeout: '90s', teardownTimeout: '150s', noCookiesReset: false,
    summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max', 'count'],
    systemTags: ['scenario', 'status', 'name', 'expected_response'],
    discardResponseBodies: true, // those that are looked at ask for theirs
  };
}
