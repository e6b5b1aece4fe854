// The wallet's script: it sends what people ask for to the REST API, as any other client does. Pages are rendered by the
// server and can be read without it.
//
// A form that moves money has its Idempotency-Key from the server, in its address, so that a double click, a reload, the
// back button or a lost answer can only ask for the same payment again.

const language = document.documentElement.lang;
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const fill = (text, value) => text.replace('%', () => value);

const answerMax = 45_000; // of one attempt, ms; longer than the server ever takes
const askingMax = 30_000; // for how long an unknown outcome is asked about by itself, ms
const lookMax = 10_000; // of one look at a page that is followed, ms; the next one waits for it

// remember leaves something for the server to read with the next page.
function remember(name, value, seconds) {
  document.cookie = `wallet_${name}=${encodeURIComponent(value)}; Path=/; Max-Age=${seconds}; SameSite=Lax`;
}

// word is an explanation of a problem in the person's language.
function word(code) {
  const words = find('#problems');
  return words && find(`[data-code="${CSS.escape(code)}"]`, words.content)?.textContent;
}

const unknown = { code: 'unknown', outcome: 'unknown', get title() { return word('unknowntitle'); } };

// once sends one request; what cannot be read as an answer is an unknown outcome.
async function once(method, path, body, headers) {
  try {
    const response = await fetch(path, {
      method, headers: { 'Accept-Language': language, Accept: 'application/json', ...headers }, body,
      credentials: 'same-origin', cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(answerMax),
    });
    const text = await response.text();
    const token = response.headers.get('Consistency-Token');
    if (token) remember('seen', token, 60);
    const after = Number(response.headers.get('Retry-After')) || 1;
    return { ok: response.ok, status: response.status, after, value: text ? JSON.parse(text) : {} };
  } catch {
    return { ok: false, status: 0, after: 1, value: unknown };
  }
}

// change asks for a change under a key until there is an answer about it. asking is called when that takes a second try.
async function change(path, key, body, asking) {
  const began = performance.now();
  const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': key, Prefer: 'wait=3' };
  for (;;) {
    const answer = await once('POST', path, JSON.stringify(body), headers);
    const again = answer.value.outcome === 'unknown' || (answer.status === 503 && answer.value.retry === 'later');
    if (answer.ok || !again || performance.now() - began > askingMax) return answer;
    asking(true);
    await pause(Math.min(answer.after, 5) * 1000);
  }
}

// signIn leaves for the sign-in page, and comes back here.
function signIn() {
  location.assign(`/wallet/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

// Forms

function show(element, text) {
  if (!element) return;
  element.textContent = text ?? element.textContent;
  element.hidden = false;
}

// complain says what is wrong with a field, beside it.
function complain(form, name, text) {
  const input = form.elements[name];
  const place = find(`[data-error="${name}"]`, form);
  if (!place || !input) return;
  place.textContent = text;
  place.hidden = !text;
  if (text) input.setAttribute('aria-invalid', 'true');
  else input.removeAttribute('aria-invalid');
}

// alertOf shows a problem above the form's fields.
function alertOf(form, problem) {
  const place = find('[data-alert]', form);
  const text = word(problem.code) ?? problem.detail ?? '';
  find('[data-alert-title]', place).textContent = problem.title ?? '';
  find('[data-alert-text]', place).textContent = text;
  const link = find('[data-alert-link]', place);
  if (link) {
    link.hidden = problem.code !== 'idempotency_key_reused';
    link.href = form.dataset.again ?? '';
  }
  place.hidden = false;
  place.scrollIntoView({ block: 'nearest' });
}

function busy(button, working) {
  if (working === undefined) {
    button.disabled = false;
    button.removeAttribute('aria-busy');
    if (button.dataset.idle) button.textContent = button.dataset.idle;
    delete button.dataset.idle;
    return;
  }
  button.dataset.idle = button.textContent;
  button.disabled = true;
  button.setAttribute('aria-busy', 'true');
  button.textContent = working;
}

// amounts

// group puts a comma before every third digit.
function group(decimal) {
  const [whole, fraction] = decimal.split('.');
  return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (fraction === undefined ? '' : `.${fraction}`);
}

// places is the number of decimals of an account's currency, known by its balance.
const places = (option) => (option.dataset.available.split('.')[1] ?? '').length;

// money writes an amount as the account's own is written.
const money = (option, decimal) => {
  const negative = decimal.startsWith('-');
  return (negative ? '−' : '') + option.dataset.before + group(negative ? decimal.slice(1) : decimal) + option.dataset.after;
};

// decimalOf reads what a person wrote as an amount, as the API takes it; undefined when it is none.
function decimalOf(text, option) {
  const plain = text.replace(/[,\s]/g, '');
  const match = /^(\d{1,15})(?:\.(\d+))?$/.exec(plain);
  if (!match || (match[2] ?? '').length > places(option)) return undefined;
  const whole = match[1].replace(/^0+(?=\d)/, '');
  const decimal = places(option) > 0 ? `${whole}.${(match[2] ?? '').padEnd(places(option), '0')}` : whole;
  return /[1-9]/.test(decimal) ? decimal : undefined;
}

// less subtracts decimals of the same number of places, exactly.
function less(from, amount) {
  const decimals = (from.split('.')[1] ?? '').length;
  const minor = (text) => BigInt(text.replace('.', ''));
  const left = minor(from) - minor(amount);
  const digits = (left < 0n ? -left : left).toString().padStart(decimals + 1, '0');
  const text = decimals ? `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}` : digits;
  return (left < 0n ? '-' : '') + text;
}

// moneyForm makes the amount follow the account that is chosen.
function moneyForm(form) {
  const select = find('[data-account]', form);
  const amount = form.elements.amount;
  if (select.dataset.selected) select.value = select.dataset.selected;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  const submit = find('button[type=submit]', form);
  const refresh = () => {
    const option = select.selectedOptions[0];
    find('[data-affix=before]', form).textContent = option.dataset.before;
    find('[data-affix=after]', form).textContent = option.dataset.after;
    const have = find('[data-have]', form);
    have.textContent = fill(have.dataset.text, option.dataset.shown);
    amount.inputMode = places(option) ? 'decimal' : 'numeric';
    const decimal = decimalOf(amount.value, option);
    if (submit.dataset.text && !submit.disabled) {
      submit.dataset.bare ??= submit.textContent;
      submit.textContent = decimal ? fill(submit.dataset.text, money(option, decimal)) : submit.dataset.bare;
    }
  };
  select.addEventListener('change', refresh);
  amount.addEventListener('input', () => {
    const end = amount.selectionEnd === amount.value.length;
    if (end && /^[\d,]+(\.\d*)?$/.test(amount.value)) amount.value = group(amount.value.replace(/,/g, ''));
    complain(form, 'amount', '');
    refresh();
  });
  refresh();
  return {
    option: () => select.selectedOptions[0],
    read: () => {
      const decimal = decimalOf(amount.value, select.selectedOptions[0]);
      const words = find('[data-error="amount"]', form).dataset;
      const example = places(select.selectedOptions[0]) ? `12.${'34567'.slice(0, places(select.selectedOptions[0]))}` : '12000';
      complain(form, 'amount', decimal ? '' : amount.value ? fill(words.bad, example) : words.required);
      return decimal;
    },
  };
}

// lookUp shows whose account a number is, before anything is sent to it.
function lookUp(form) {
  const input = form.elements.to;
  const place = find('[data-payee]', form);
  const words = find('[data-error="to"]', form).dataset;
  let asked = 0;
  let found;
  const number = () => input.value.replace(/\s/g, '').toLowerCase();
  const look = async () => {
    const wanted = number();
    const turn = ++asked;
    found = undefined;
    place.hidden = true;
    complain(form, 'to', '');
    if (!/^[a-z][a-z0-9]{1,15}-\d{14}$/.test(wanted)) return;
    place.textContent = place.dataset.looking;
    place.className = 'payee looking';
    place.hidden = false;
    const answer = await once('GET', `/v1/payees/${encodeURIComponent(wanted)}`);
    if (turn !== asked) return;
    place.hidden = true;
    if (answer.status === 401) return signIn();
    if (!answer.ok) {
      const code = answer.value.code;
      const text = { account_not_found: words.nosuch, peer_unknown: words.nosystem, invalid_request: words.bad }[code];
      return complain(form, 'to', text ?? words.nolookup);
    }
    found = { ...answer.value, number: wanted };
    const system = wanted.split('-')[0];
    found.shown = found.name || place.dataset.unnamed;
    found.where = system === place.dataset.system ? place.dataset.here : fill(place.dataset.elsewhere, system);
    const name = Object.assign(document.createElement('strong'), { textContent: found.shown });
    const rest = Object.assign(document.createElement('span'), { textContent: `${found.currency} · ${found.where}` });
    place.className = 'payee';
    place.replaceChildren(name, rest);
    place.hidden = false;
  };
  let timer;
  input.addEventListener('input', () => {
    clearTimeout(timer);
    found = undefined;
    place.hidden = true;
    complain(form, 'to', '');
    timer = setTimeout(look, 200);
  });
  input.addEventListener('blur', () => {
    if (input.value && !found && !/^[a-z][a-z0-9]{1,15}-\d{14}$/.test(number())) complain(form, 'to', words.bad);
  });
  if (input.value) look();
  return {
    read: async (option) => {
      clearTimeout(timer);
      if (!input.value.trim()) return complain(form, 'to', words.required);
      if (!found || found.number !== number()) await look();
      if (!found) {
        if (find('[data-error="to"]', form).hidden) complain(form, 'to', words.bad);
        return undefined;
      }
      if (found.currency !== option.dataset.currency) {
        complain(form, 'to', fill(words.currency, found.currency));
        return undefined;
      }
      return found;
    },
  };
}

// confirmed shows what is about to be sent and waits for a word about it.
function confirmed(dialog, option, payee, amount, note) {
  const put = (name, text) => { find(`[data-show="${name}"]`, dialog).textContent = text; };
  put('amount', money(option, amount));
  put('name', payee.shown);
  put('to', payee.number);
  put('where', payee.where);
  put('from', option.value);
  put('description', note);
  const left = less(option.dataset.available, amount);
  put('left', money(option, left));
  find('[data-show="left"]', dialog).classList.toggle('short', left.startsWith('-'));
  find('[data-row="description"]', dialog).hidden = !note;
  const send = find('button[type=submit]', dialog);
  send.textContent = fill(send.dataset.text, money(option, amount));
  dialog.showModal();
  send.focus();
}

// done goes on to what has been made. The form leaves the history: going back does not lead to it.
function done(form, value) {
  location.replace(form.dataset.then.replace(/\{(\w+)\}/, (_, name) => encodeURIComponent(value[name])));
}

// request is the body that a form asks for; undefined while something is wrong with it.
async function request(form, parts) {
  if (!parts.amount) {
    const fields = Object.fromEntries(new FormData(form));
    return { currency: fields.currency, ...(fields.label.trim() && { label: fields.label.trim() }) };
  }
  const option = parts.amount.option();
  const amount = parts.amount.read();
  const payee = parts.payee ? await parts.payee.read(option) : undefined;
  if (!amount || (parts.payee && !payee)) return undefined;
  const note = form.elements.description.value.trim();
  const sides = parts.payee ? { from: option.value, to: payee.number } : { account: option.value };
  return { body: { ...sides, amount, currency: option.dataset.currency, ...(note && { description: note }) }, option, payee, amount, note };
}

// renew gives a form another key once its own stands for a refusal for ever: what is corrected is another request. Only an
// answer that was decided under the key says so; all others leave open what became of an earlier try.
function renew(form, answer) {
  const decided = [404, 422].includes(answer.status) || answer.value.retry === 'new-key';
  if (!decided || answer.value.outcome !== 'not_applied' || answer.value.code === 'idempotency_key_reused') return;
  const address = new URL(location.href);
  form.dataset.key = crypto.randomUUID();
  address.searchParams.set('form', form.dataset.key);
  history.replaceState(null, '', address);
}

function changing(form) {
  const parts = {};
  if (find('[data-account]', form)) parts.amount = moneyForm(form);
  if (find('[data-payee]', form)) parts.payee = lookUp(form);
  const dialog = form.dataset.review && document.getElementById(form.dataset.review);
  let underway = false;
  let asked;

  const send = async (button, working, asking) => {
    if (underway) return;
    underway = true;
    busy(button, working);
    const answer = await change(form.dataset.change, form.dataset.key, asked.body ?? asked, (on) => { asking.hidden = !on; });
    asking.hidden = true;
    if (answer.ok) return done(form, answer.value);
    underway = false;
    busy(button);
    if (dialog?.open) dialog.close();
    if (answer.status === 401) return signIn();
    renew(form, answer);
    alertOf(form, answer.value);
  };

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (underway) return;
    find('[data-alert]', form).hidden = true;
    const button = find('button[type=submit]', form);
    asked = await request(form, parts);
    if (!asked) return find('[aria-invalid]', form)?.focus();
    if (!dialog) return send(button, form.dataset.working, find('[data-asking]', form));
    if (!dialog.open) confirmed(dialog, asked.option, asked.payee, asked.amount, asked.note);
  });
  if (!dialog) return;
  const confirm = find('[data-confirm]', dialog);
  confirm.addEventListener('submit', (event) => {
    event.preventDefault();
    send(find('button[type=submit]', confirm), confirm.dataset.working, find('[data-asking]', confirm));
  });
  dialog.addEventListener('cancel', (event) => { if (underway) event.preventDefault(); });
  find('[data-close]', dialog).addEventListener('click', () => { if (!underway) dialog.close(); });
}

// A form for one's name and password.
function authenticating(form) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = find('button[type=submit]', form);
    if (button.disabled) return;
    let wrong = false;
    for (const input of all('input[required]', form)) {
      const words = find(`[data-error="${input.name}"]`, form)?.dataset;
      const text = !input.value ? words?.required : input.minLength > 0 && input.value.length < input.minLength ? words?.bad : '';
      complain(form, input.name, text ?? '');
      wrong ||= Boolean(text);
    }
    if (wrong) return find('[aria-invalid]', form).focus();
    for (const said of all('[data-alert], [data-done]', form)) said.hidden = true;
    busy(button, form.dataset.working);
    const answer = await once('POST', form.dataset.auth, JSON.stringify(Object.fromEntries(new FormData(form))), { 'Content-Type': 'application/json' });
    if (answer.ok && form.dataset.next) return location.replace(form.dataset.next);
    busy(button);
    if (answer.ok) {
      form.reset();
      return show(find('[data-done]', form), form.dataset.said);
    }
    alertOf(form, answer.value);
    all('[type=password]', form).forEach((input) => { input.value = ''; });
    find('input:not([tabindex])', form).focus();
  });
}

async function signOut(event) {
  const button = event.currentTarget;
  button.disabled = true;
  const [method, path] = button.dataset.signOut === 'everywhere' ? ['DELETE', '/v1/me/sessions'] : ['POST', '/v1/auth/logout'];
  const answer = await once(method, path, method === 'POST' ? '{}' : undefined, { 'Content-Type': 'application/json' });
  button.disabled = false;
  if (answer.ok || answer.status === 401) return location.replace('/wallet/sign-in');
  const place = Object.assign(document.createElement('div'), { className: 'alert', role: 'alert' });
  place.append(Object.assign(document.createElement('strong'), { textContent: answer.value.title }));
  find('main').prepend(place);
}

// Following a transfer

// follow keeps the page of a transfer up to date until nothing will change any more: the server tells when something
// happens, and where it cannot, the page asks.
function follow(article) {
  const part = () => find('[data-live-part]', article);
  const finished = () => part().dataset.finished === 'true';
  if (finished()) return;
  const refresh = async () => {
    try {
      const response = await fetch(location.href, {
        cache: 'no-store', credentials: 'same-origin', headers: { Accept: 'text/html' }, signal: AbortSignal.timeout(lookMax),
      });
      const page = new DOMParser().parseFromString(await response.text(), 'text/html');
      const fresh = find('[data-live-part]', page);
      if (response.status === 401) return location.reload();
      if (fresh && fresh.dataset.mark !== part().dataset.mark) part().replaceWith(fresh);
    } catch { /* the next one may succeed */ }
    if (finished()) stop();
  };
  // The page asks by itself until the stream speaks, and whenever it breaks: a proxy may hold it back or cut it.
  let left = false;
  let polling;
  const poll = (wait) => {
    clearTimeout(polling);
    polling = setTimeout(async () => {
      await refresh();
      if (!left && !finished()) poll(Math.min(wait * 1.5, 5000));
    }, wait);
  };
  const events = new EventSource(article.dataset.live);
  const stop = () => {
    left = true;
    events.close();
    clearTimeout(polling);
  };
  events.addEventListener('message', (event) => {
    clearTimeout(polling);
    if (event.data !== part().dataset.mark) refresh();
  });
  events.addEventListener('error', () => { if (!left) poll(1000); });
  addEventListener('pagehide', stop);
  poll(3000);
}

// All pages

remember('zone', Intl.DateTimeFormat().resolvedOptions().timeZone, 31_536_000);
all('form[data-change]').forEach(changing);
all('form[data-auth]').forEach(authenticating);
all('[data-live]').forEach(follow);
all('[data-sign-out]').forEach((button) => button.addEventListener('click', signOut));
all('[data-reveal]').forEach((button) => {
  const input = document.getElementById(button.dataset.reveal);
  const words = [button.textContent, button.dataset.hide];
  button.addEventListener('click', () => {
    const hidden = input.type === 'password';
    input.type = hidden ? 'text' : 'password';
    button.textContent = words[Number(hidden)];
    button.setAttribute('aria-pressed', String(hidden));
  });
});
all('[data-copy]').forEach((button) => {
  if (!navigator.clipboard) return;
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = text; }, 2000);
  });
});
// A page out of the browser's own memory may belong to somebody who has signed out since.
addEventListener('pageshow', (event) => {
  if (event.persisted && document.body.hasAttribute('data-person')) location.reload();
});
