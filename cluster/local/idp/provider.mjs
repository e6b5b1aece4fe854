// The OpenID provider of a local cluster: npm's oidc-provider with two pages, one to sign in on and one to agree on.
// It is told all that it needs by a JSON file, keeps nothing on disk, and listens on this machine only.
//
//   node provider.mjs config.json
import { createHash, generateKeyPairSync, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import Provider, { interactionPolicy } from 'oidc-provider';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const here = (name) => readFileSync(new URL(name, import.meta.url), 'utf8');
const style = here('style.css');
const pages = { login: here('login.html'), consent: here('consent.html') };
const formBytesMax = 4096;

const policy = interactionPolicy.base();
policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

const provider = new Provider(config.issuer, {
  clients: config.clients.map((client) => ({
    client_id: client.id,
    client_secret: client.secret,
    client_name: client.name,
    redirect_uris: client.redirect_uris,
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
  })),
  jwks: { keys: [{ ...key, kid: Date.now().toString(36), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [config.cookie_key], names: { session: 'idp_session', interaction: 'idp_interaction', resume: 'idp_resume' } },
  pkce: { required: () => true, methods: ['S256'] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'picture'] },
  features: { devInteractions: { enabled: false } },
  interactions: { policy, url: (_, interaction) => `/interaction/${interaction.uid}` },
  async findAccount(_, id) {
    const user = config.users.find((one) => one.sub === id);
    return user && {
      accountId: id,
      claims: async () => ({ sub: id, name: user.name, email: user.email, email_verified: true, picture: user.picture }),
    };
  },
});

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function show(response, status, page, fields) {
  const html = pages[page].replace(/%([A-Z]+)%/g, (_, name) => (name === 'STYLE' ? style : escape(fields[name] ?? '')));
  response.writeHead(status, {
    'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer',
    'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
  });
  response.end(html);
}

async function form(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > formBytesMax) throw new Error('the form is too long');
  }
  return new URLSearchParams(text);
}

function same(a, b) {
  const hash = (text) => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}

function signedIn(fields) {
  const user = config.users.find((one) => one.username === fields.get('username'));
  return user && user.passwords.some((password) => same(password, fields.get('password') ?? '')) ? user : undefined;
}

async function interact(request, response, action) {
  const details = await provider.interactionDetails(request, response);
  const client = await provider.Client.find(details.params.client_id);
  const fields = { ACTION: `/interaction/${details.uid}`, CLIENT: client.clientName ?? client.clientId };
  const finish = (result, merge) => provider.interactionFinished(request, response, result, { mergeWithLastSubmission: merge });
  const consenting = details.prompt.name === 'consent';
  if (request.method === 'GET') {
    const user = config.users.find((one) => one.sub === details.session?.accountId);
    return show(response, 200, consenting ? 'consent' : 'login', { ...fields, USER: user?.username });
  }
  const sent = await form(request);
  if (action === 'cancel') {
    return finish({ error: 'access_denied', error_description: 'cancelled' }, false);
  }
  if (action === 'login' && !consenting) {
    const user = signedIn(sent);
    if (!user) {
      return show(response, 400, 'login', { ...fields, USER: sent.get('username') ?? '', ERROR: 'The username or the password is wrong.' });
    }
    return finish({ login: { accountId: user.sub, remember: false }, select_account: {} }, false);
  }
  if (action === 'consent' && consenting) {
    const grant = details.grantId
      ? await provider.Grant.find(details.grantId)
      : new provider.Grant({ accountId: details.session.accountId, clientId: details.params.client_id });
    if (details.prompt.details.missingOIDCScope) grant.addOIDCScope(details.prompt.details.missingOIDCScope.join(' '));
    if (details.prompt.details.missingOIDCClaims) grant.addOIDCClaims(details.prompt.details.missingOIDCClaims);
    return finish({ consent: { grantId: await grant.save() } }, true);
  }
  response.writeHead(404).end();
}

const serve = provider.callback();
const server = createServer((request, response) => {
  const [, uid, action] = /^\/interaction\/([\w-]+)(?:\/(login|consent|cancel))?$/.exec(request.url) ?? [];
  if (!uid) {
    serve(request, response);
    return;
  }
  interact(request, response, action).catch((error) => {
    console.error('interaction:', error.message);
    if (!response.headersSent) response.writeHead(400, { 'Content-Type': 'text/plain' });
    response.end('This sign-in is not under way any more. Go back and start again.');
  });
});
server.listen(Number(new URL(config.issuer).port), '127.0.0.1');
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
