// How long and how much: each script has a short form, which `make k6` runs, and a long one (FORM=long). SECONDS stretches
// the main part of either to a length of one's own.
const long = __ENV.FORM === 'long';

if (__ENV.FORM && !['short', 'long'].includes(__ENV.FORM)) {
  throw new Error(`FORM is short or long, not ${__ENV.FORM}`);
}

// seconds is the length of a script's main part.
export function seconds(short, full) {
  return Number(__ENV.SECONDS) || pick(short, full);
}

export function pick(short, full) {
  return long ? full : short;
}
