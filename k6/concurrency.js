// Everybody at one account: deposits, withdrawals, transfers in and out, and holds, over the balancer and both nodes, with
// so little money that many are refused. The account is never below zero, and at the end it has exactly what clients were told.
import { Counter } from 'k6/metrics';

import { surprise } from './lib/api.js';
import { amount, audit, begin, common, deposit, holdAndEnd, open, read, settings, some, transfer, withdraw } from './lib/bank.js';
import { alpha, system } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const bases = [system(alpha).base_url, ...system(alpha).nodes];
const others = ['other-0', 'other-1', 'other-2', 'other-3'];
const reads = new Counter('balances_read');

export const options = settings(
  {
    crowd: { executor: 'constant-vus', vus: pick(40, 150), duration: `${seconds(10, 120)}s`, gracefulStop: '30s' },
    look: { executor: 'constant-vus', vus: 1, duration: `${seconds(10, 120)}s`, exec: 'look' },
  },
  common([alpha], ['hot', ...others], {
    paid: ['count>200'],
    'refused{code:insufficient_funds}': ['count>20'],
    balances_read: ['count>20'],
    'http_req_duration{scenario:crowd}': ['p(99)<5000'],
  }),
);

export function setup() {
  const data = begin([alpha]);
  open(data, alpha, 'hot', 5_000);
  others.forEach((place) => open(data, alpha, place, 1_000_000));
  return data;
}

export default function (data) {
  const [hot, ...rest] = data.accounts[alpha];
  const other = some(rest);
  const how = { base: some(bases), refusals: ['insufficient_funds'] };
  const dice = Math.random();
  if (dice < 0.15) {
    deposit(data, alpha, hot, amount(), how);
  } else if (dice < 0.35) {
    transfer(data, alpha, other, hot, amount(), how);
  } else if (dice < 0.6) {
    transfer(data, alpha, hot, other, amount(), how);
  } else if (dice < 0.8) {
    withdraw(data, alpha, hot, amount(), how);
  } else {
    holdAndEnd(data, alpha, hot, other, amount(), how);
  }
}

// look reads the account over and over: what is available is never below zero, and is what is posted less what is held.
export function look(data) {
  const answer = read(data, alpha, data.accounts[alpha][0], { base: some(bases), fresh: Math.random() < 0.5 });
  const { posted, pending_debit: held, available } = answer.json.balance || {};
  if (!answer.ok || Number(available) < 0 || Number(posted) - Number(held) !== Number(available)) {
    surprise('the balance', answer);
  }
  reads.add(1);
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('concurrency');
