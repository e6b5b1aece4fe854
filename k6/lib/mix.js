import { get, surprise } from './api.js';
import { amount, deposit, holdAndEnd, some, transfer, two, withdraw } from './bank.js';

// mix is one thing that a client may do, of all kinds: transfers inside and between the systems, deposits, withdrawals, holds,
// repeats of old requests, statements.
export function mix(data, ids) {
  const id = some(ids);
  const [from, to] = two(data.accounts[id]);
  const dice = Math.random();
  if (dice < 0.15) {
    const payee = some(data.accounts[id === ids[0] ? ids[1] : ids[0]]);
    transfer(data, id, from, payee, amount(), { wait: 10, tags: { kind: 'cross' } });
  } else if (dice < 0.5) {
    transfer(data, id, from, to, amount());
  } else if (dice < 0.6) {
    deposit(data, id, to, amount());
  } else if (dice < 0.7) {
    withdraw(data, id, from, amount());
  } else if (dice < 0.8) {
    holdAndEnd(data, id, from, to, 1 + amount());
  } else if (dice < 0.9) {
    twice(data, id, from, to);
  } else {
    const answer = get(data, id, `/v1/accounts/${from.number}/entries?limit=20`);
    if (answer.status !== 200) {
      surprise('a statement', answer);
    }
  }
}

// twice sends a transfer again that was acknowledged: the answer is the same, and it is told to the books once.
function twice(data, id, from, to) {
  const key = crypto.randomUUID();
  const minor = amount();
  const first = transfer(data, id, from, to, minor, { key });
  const second = transfer(data, id, from, to, minor, { key, effects: null });
  if (second.text !== first.text || second.headers['Idempotency-Replayed'] !== 'true') {
    surprise('a repeat', second);
  }
}
