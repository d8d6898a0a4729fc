// Any device or service that answers with JSON over HTTP: what is read and written is said by settings. See README.md.

export default driver({
  name: 'http-json',
  version: '1.1.0',
  title: 'HTTP with JSON',
  description: 'Polls a device or service that answers with JSON, by settings alone: which values it has, where they are, how they are written.',
  transports: [{ scheme: 'http' }, { scheme: 'https' }],

  settings: {
    poll_s: { type: 'integer', title: 'Poll interval in seconds', minimum: 1, maximum: 86_400, default: 60 },
    authorization: { type: 'string', title: 'Authorization', writeOnly: true, maxLength: 2048, default: '', description: 'The whole header, such as "Bearer TOKEN".' },
    headers: { type: 'object', title: 'Other headers', default: {}, maxProperties: 20, additionalProperties: { type: 'string', maxLength: 1024 } },
    requests: {
      type: 'array', title: 'Requests of a poll', default: [{ path: '/' }], minItems: 1, maxItems: 8,
      items: { type: 'object', required: ['path'], additionalProperties: false, properties: { path: { type: 'string', maxLength: 1024 }, method: { enum: ['GET', 'POST'] }, body: {} } },
    },
    values: {
      type: 'object', title: 'Values', default: {}, maxProperties: 100, description: 'By the names of the properties that they become.',
      propertyNames: { pattern: '^[a-z][a-z0-9_]{0,63}$' },
      additionalProperties: {
        type: 'object', required: ['path'], additionalProperties: false,
        properties: {
          path: { type: 'string', maxLength: 256, description: 'Such as sensors[0].temperature.' }, request: { type: 'integer', minimum: 0, maximum: 7 },
          type: { enum: ['number', 'integer', 'boolean', 'string'] }, title: { type: 'string', maxLength: 200 }, unit: { type: 'string', maxLength: 32 },
          scale: { type: 'number' }, offset: { type: 'number' }, on: {}, off: {},
          write: { type: 'object', required: ['path'], additionalProperties: false, properties: { path: { type: 'string', maxLength: 1024 }, method: { enum: ['PUT', 'POST', 'PATCH', 'GET'] }, body: {} } },
        },
      },
    },
    commands: {
      type: 'object', title: 'Commands', default: {}, maxProperties: 50, propertyNames: { pattern: '^[a-z][a-z0-9_]{0,63}$' },
      additionalProperties: { type: 'object', required: ['path'], additionalProperties: false, properties: { path: { type: 'string', maxLength: 1024 }, method: { enum: ['PUT', 'POST', 'PATCH', 'GET', 'DELETE'] }, body: {} } },
    },
  },

  scan: {
    over: 'udp', port: 1900, group: '239.255.255.250', timeout_ms: 4000,
    options: {
      type: 'object', additionalProperties: false,
      properties: {
        target: { type: 'string', maxLength: 200, pattern: '^[!-~]+$', description: 'What is searched for, such as urn:schemas-upnp-org:device:basic:1; all root devices, where it is absent.' },
        address: { type: 'string', maxLength: 64, description: 'Ask this ADDRESS[:PORT] in place of everybody.' },
      },
    },
    run(twin, { target = 'upnp:rootdevice', address = '' }) {
      twin.send(`M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ${target}\r\n\r\n`, address);
    },
    found: (twin, from, answer) => announced(twin, from.slice(0, from.lastIndexOf(':')), new TextDecoder().decode(answer)),
  },

  properties: { answers: { type: 'boolean', title: 'Answers as it should' } },

  actions: {
    refresh: { title: 'Read everything now', safe: true, idempotent: true, run: (twin) => poll(twin) },
    run: {
      title: 'Run a command of the settings', input: { command: 'string', value: { description: 'Stands for {value}.', optional: true, type: ['string', 'number', 'boolean', 'object', 'array', 'null'] } }, output: {},
      async run(twin, { command, value }) {
        const c = Object.hasOwn(twin.settings.commands, command) ? twin.settings.commands[command] : undefined;
        if (!c) throw new Refusal(`there is no command ${command}; there are ${Object.keys(twin.settings.commands).join(', ') || 'none'}`, { code: 2 });
        const answer = await ask(twin, c, 'POST', value);
        return answer ?? null;
      },
    },
  },

  load(twin) {
    const properties = {};
    for (const [name, v] of Object.entries(twin.settings.values)) {
      properties[name] = { type: v.type ?? 'number', title: v.title ?? name, ...(v.unit ? { unit: v.unit } : {}), ...(v.write ? {} : { readOnly: true }) };
    }
    twin.describe({ properties });
    twin.every('poll', `${twin.settings.poll_s}s`);
    twin.after('now', 0);
  },

  async set(twin, property, value) {
    const v = Object.hasOwn(twin.settings.values, property) ? twin.settings.values[property] : undefined;
    if (!v?.write) throw new Refusal(`${property} cannot be set`, { code: 2 });
    await ask(twin, v.write, 'PUT', toDevice(v, value));
    twin.report(property, value);
  },

  timers: { poll: quietly, now: quietly },
});

// announced takes an answer to a search by SSDP (UPnP Device Architecture 2.0, section 1.3.3).
function announced(twin, sender, text) {
  const [status, ...lines] = text.split('\r\n');
  if (!/^HTTP\/1\.[01] 200\b/.test(status)) return; // a search, or somebody's notice
  const headers = {};
  for (const line of lines) {
    const [, name, value] = /^([^:]+):\s*(.*?)\s*$/.exec(line) ?? [];
    if (name) headers[name.toLowerCase()] = value;
  }
  const [, scheme, host, port = ''] = /^(https?):\/\/(\[[0-9a-f:]+\]|[^/:@]+)(:\d{1,5})?(?:\/|$)/i.exec(headers.location ?? '') ?? [];
  const [, uuid] = /^uuid:([^:]{1,100})/i.exec(headers.usn ?? '') ?? [];
  if (!host || !uuid) return;
  if (host !== sender) { // who answers speaks for itself alone
    console.warn(`${sender} says that ${host} is to be asked: left out`);
    return;
  }
  twin.discover({ network: 'upnp', key: 'uuid', value: uuid, driver: 'http-json', name: `${headers.server ?? 'UPnP device'} at ${host}`.slice(0, 200), uri: `${scheme.toLowerCase()}://${host}${port}` });
}

// quietly reads everything; what does not work shows as `answers`, not as an error of the timer.
async function quietly(twin) {
  try {
    await poll(twin);
  } catch (error) {
    if (!(error instanceof Refusal) && !(error instanceof CapabilityError)) throw error;
    console.warn(error.message);
    twin.report('answers', false);
  }
}

async function poll(twin) {
  const { requests, values } = twin.settings;
  let missing = [];
  for (const [i, request] of requests.entries()) {
    const answer = await ask(twin, request, 'GET');
    for (const [name, v] of Object.entries(values)) {
      if ((v.request ?? 0) !== i) continue;
      const value = fromDevice(v, find(answer, v.path));
      if (value === undefined) missing.push(name);
      else twin.report(name, value);
    }
  }
  twin.report('answers', missing.length === 0);
  if (missing.length) console.warn('not in the answer, or of another type:', missing.join(', '));
}

// ask makes a request and gives what the answer's JSON says.
async function ask(twin, { path, method, body }, usual, value) {
  const { authorization, headers } = twin.settings;
  const answer = await twin.fetch(fill(path, value, encodeURIComponent), {
    method: method ?? usual, headers: { accept: 'application/json', ...headers, ...(authorization ? { authorization } : {}) },
    body: body === undefined ? undefined : fill(body, value, String),
  });
  if (!answer.ok) throw new Refusal(`${path} answers ${answer.status}`, { code: answer.status, retryable: answer.status === 429 || answer.status >= 500 });
  const text = answer.text();
  if (!text.trim()) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    if (usual !== 'GET') return undefined; // of what was written, the status tells enough
    throw new Refusal(`${path} answers no JSON: ${text.slice(0, 80)}`, { code: 3 });
  }
}

// fill puts a value where {value} stands: a text that is nothing else becomes the value itself.
function fill(template, value, as) {
  if (template === '{value}' && as === String) return value;
  if (typeof template === 'string') return template.replaceAll('{value}', () => as(value));
  if (Array.isArray(template)) return template.map((item) => fill(item, value, as));
  if (template !== null && typeof template === 'object') return Object.fromEntries(Object.entries(template).map(([k, v]) => [k, fill(v, value, as)]));
  return template;
}

// find walks a path such as sensors[0].temperature; an empty one is the whole.
function find(value, path) {
  for (const step of path.match(/[^.[\]]+/g) ?? []) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value;
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// fromDevice makes a value of the property's type; undefined where it is none.
function fromDevice(v, raw) {
  const type = v.type ?? 'number';
  if (raw === null || raw === undefined) return raw;
  if (type === 'boolean') {
    if (v.on !== undefined && same(raw, v.on)) return true;
    if (v.off !== undefined && same(raw, v.off)) return false;
    return v.on === undefined && v.off === undefined && typeof raw === 'boolean' ? raw : undefined;
  }
  if (type === 'string') return typeof raw === 'object' ? undefined : String(raw);
  const number = typeof raw === 'string' && raw.trim() !== '' ? Number(raw) : raw;
  if (typeof number !== 'number' || !Number.isFinite(number)) return undefined;
  const scaled = Math.round((number * (v.scale ?? 1) + (v.offset ?? 0)) * 1e9) / 1e9;
  return type === 'integer' ? Math.round(scaled) : scaled;
}

function toDevice(v, value) {
  if (typeof value === 'boolean') return value ? v.on ?? true : v.off ?? false;
  return typeof value === 'number' ? Math.round((value - (v.offset ?? 0)) / (v.scale ?? 1) * 1e9) / 1e9 : value;
}
