// Five times as many clients as the cluster carries at its peak, all at once. Those for whom there is no room hear 503 with
// Retry-After and come back when they were told to; the others are served at least four fifths as fast as at the peak, once
// the crowd has arrived; and ten seconds after it has gone all is as before.
//
// A payment is a batch of several transfers: the nodes then have much more to do for it than k6 has, which shares the machine
// with them and would else be what cannot do any more.
import { Counter } from 'k6/metrics';
import { sleep } from 'k6';

import { call, paid, refused, surprise, told, token } from './lib/api.js';
import { amount, audit, begin, common, currency, noteMemory, open, settings, some } from './lib/bank.js';
import { alpha } from './lib/cluster.js';
import { seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const carried = Number(__ENV.CLIENTS) || 256; // a fifth of what has to be more than two nodes have room for
const times = 5;
const warm = 4;
const calm = 10; // each measured part but the spike
const arrival = 4; // while it lasts this machine makes connections for the crowd, rather than payments
const crowd = seconds(12, 60); // from then on
const back = 10; // seconds until all has to be normal again
const drawers = 8;
const places = Array.from({ length: drawers }, (_, i) => `drawer-${i}`);
const nearly = 0.8;
const transfersEach = 8;

// A ratio of two parts is judged as a sum: what is served in the one adds, what was served at the peak takes off. The spike is
// held against the peak's clients before and after it, for what else this machine has to do comes and goes.
const goodput = new Counter('goodput_above_bar'); // payments a second over 0.8 of the peak's, in the spike
const after = new Counter('recovered_above_bar'); // and ten seconds after it, over 0.8 of what the peak was before
const blind = new Counter('refused_without_retry_after');

const crowdFrom = warm + calm;
const crowdTo = crowdFrom + arrival + crowd;
const afterFrom = crowdTo + back;
const part = (vus, startTime, duration, exec) => ({ executor: 'constant-vus', vus, startTime: `${startTime}s`, duration: `${duration}s`, gracefulStop: '20s', exec });

export const options = settings(
  {
    warm: part(carried, 0, warm, 'pay'),
    peak: part(carried, warm, calm, 'pay'),
    spike: part(times * carried, crowdFrom, arrival + crowd, 'pay'),
    recovery: part(carried, crowdTo, back, 'pay'),
    after: part(carried, afterFrom, calm, 'pay'),
    watch: { executor: 'constant-arrival-rate', rate: 1, timeUnit: '1s', duration: `${afterFrom + calm}s`, preAllocatedVUs: 2, exec: 'watch' },
  },
  common([alpha], places, {
    broken: [], // 503 is what is wanted here; anything else is unexpected
    'paid{part:peak}': ['count>100'],
    'paid{part:spike}': ['count>100'],
    'refused{part:spike}': ['count>100'],
    'refused{part:peak}': ['count==0'],
    'refused{part:after}': ['count==0'],
    refused_without_retry_after: ['count==0'],
    goodput_above_bar: ['count>=0'],
    recovered_above_bar: ['count>=0'],
    node_memory_mib: ['max<200', 'min>0'],
  }),
);

export function setup() {
  const data = begin([alpha]);
  for (let i = 0; i < 200; i++) {
    open(data, alpha, places[i % drawers], 100_000_000);
  }
  data.began = Date.now();
  return data;
}

// The parts begin by the clock, and a request belongs to the part in which it is answered.
function partAt(elapsed) {
  const ends = [[warm, 'warm'], [crowdFrom, 'peak'], [crowdFrom + arrival, 'arrival'], [crowdTo, 'spike'],
    [afterFrom, 'recovery'], [afterFrom + calm, 'after']];
  const found = ends.find(([end]) => elapsed < end);
  return found ? found[1] : 'late';
}

const atPlace = {}; // found once by each client, for k6 has to save its time

function accountsAt(data, place) {
  atPlace[place] ||= data.accounts[alpha].filter((account) => account.place === place);
  return atPlace[place];
}

export function pay(data) {
  const from = some(data.accounts[alpha]);
  const place = some(places.filter((p) => p !== from.place));
  const payees = accountsAt(data, place);
  const minor = amount();
  const first = Math.floor(Math.random() * payees.length);
  const transfers = Array.from({ length: transfersEach }, (_, i) => (
    { from: from.number, to: payees[(first + i) % payees.length].number, amount: `${minor}`, currency }
  ));
  const body = { atomic: true, transfers };
  const answer = call(alpha, 'POST', '/v1/batches', { body, key: crypto.randomUUID(), token: token(data, alpha), timeout: '30s', wait: 20 });
  const now = partAt((Date.now() - data.began) / 1000);
  if (answer.status === 201) {
    paid.add(1, { part: now });
    told(from.place, -minor * transfersEach);
    told(place, minor * transfersEach);
    weigh(now);
  } else if (answer.status === 503 && answer.code === 'overloaded' && answer.json.outcome === 'not_applied') {
    refused.add(1, { part: now });
    const wait = Number(answer.headers['Retry-After']);
    blind.add(wait > 0 ? 0 : 1);
    sleep(wait || 1);
  } else {
    surprise('a payment', answer);
  }
}

function weigh(now) {
  if (now === 'peak') {
    goodput.add(-nearly / calm / 2);
    after.add(-nearly / calm);
  } else if (now === 'spike') {
    goodput.add(1 / crowd);
  } else if (now === 'after') {
    goodput.add(-nearly / calm / 2);
    after.add(1 / calm);
  }
}

export function watch() {
  noteMemory(alpha);
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('spike');
