// The other side of the exchange: it reads what Go signed from standard input, verifies it with an implementation of
// its own, signs messages in its turn, and writes both to standard output.
'use strict';
const crypto = require('node:crypto');
const { httpbis } = require('http-message-signatures');

const tag = 'lockstep-peer-v1';
const params = ['created', 'expires', 'nonce', 'keyid', 'tag'];
const keyid = 'node-1';
const pair = crypto.generateKeyPairSync('ed25519');
const key = { id: keyid, alg: 'ed25519', sign: async (data) => crypto.sign(null, data, pair.privateKey) };

const digest = (body) => `sha-256=:${crypto.createHash('sha256').update(body).digest('base64')}:`;

function lookup(jwks) {
  return async ({ keyid }) => {
    const jwk = jwks.keys.find((candidate) => candidate.kid === keyid);
    if (!jwk) return null;
    const key = crypto.createPublicKey({ key: jwk, format: 'jwk' });
    return { id: keyid, algs: ['ed25519'], verify: async (data, signature) => crypto.verify(null, data, key, signature) };
  };
}

// verify tells what is wrong with a message, or "".
async function verify(jwks, { request, response }) {
  const message = response ?? request;
  const config = {
    keyLookup: lookup(jwks),
    requiredParams: response ? ['created', 'expires', 'keyid', 'tag'] : params,
    requiredFields: response ? ['@status', 'signature', 'content-digest'] : ['@method', '@authority', '@path', '@query'],
  };
  try {
    if (message.body && message.headers['content-digest'] !== digest(message.body)) return 'another digest';
    return (await httpbis.verifyMessage(config, message, response && request)) === true ? '' : 'not verified';
  } catch (error) {
    return String(error);
  }
}

// sign returns the message with its signature.
async function sign({ request, response }) {
  const message = response ?? request;
  if (message.body || response) message.headers['content-digest'] = digest(message.body ?? '');
  let fields = ['@method', '@authority', '@path', '@query'];
  if (response) {
    const label = /^[a-z]+/.exec(request.headers['signature-input'])[0];
    fields = ['@status', `"signature";req;key="${label}"`, 'content-digest'];
  }
  if (message.body) fields.push('content-type');
  if (message.body && !response) fields.push('content-digest');
  if (request.method === 'POST' && !response) fields.push('idempotency-key');
  const paramValues = { expires: new Date(Date.now() + 30000), nonce: response ? undefined : crypto.randomUUID(), tag };
  return httpbis.signMessage({ key, name: 'node', fields, params, paramValues }, message, response && request);
}

async function main() {
  let text = '';
  for await (const chunk of process.stdin) text += chunk;
  const input = JSON.parse(text);
  const verified = [];
  for (const message of input.verify) verified.push(await verify(input.jwks, message));
  const signed = [];
  for (const message of input.sign) signed.push(await sign(message));
  const jwks = { keys: [{ ...pair.publicKey.export({ format: 'jwk' }), kid: keyid }] };
  process.stdout.write(JSON.stringify({ jwks, verified, signed }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
