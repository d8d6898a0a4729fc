// Any device that speaks MQTT, in JSON or plain texts: what is read and written is said by settings. See README.md.

export default driver({
  name: 'mqtt-json',
  version: '1.0.0',
  title: 'MQTT by settings',
  description: 'Maps the MQTT topics of any device to properties, by settings alone: JSON or plain texts, read and written.',
  transport: { scheme: 'mqtt', subscribe: ['{topic}/#'], publish: ['{topic}/#'] },

  settings: {
    topic: { type: 'string', title: 'Topic', required: true, minLength: 1, maxLength: 128, pattern: '^[^+#]+$', description: 'All of the device\'s topics begin with it.' },
    values: {
      type: 'object', title: 'Values', default: {}, maxProperties: 100, description: 'By the names of the properties that they become.',
      propertyNames: { pattern: '^[a-z][a-z0-9_]{0,63}$' },
      additionalProperties: {
        type: 'object', additionalProperties: false,
        properties: {
          topic: { type: 'string', maxLength: 128, description: 'Below the device\'s topic; empty: that itself. + stands for any level.' },
          path: { type: 'string', maxLength: 256, description: 'Where the value is in the JSON, such as sensors[0].temperature; absent: the payload is the value.' },
          type: { enum: ['number', 'integer', 'boolean', 'string'] }, title: { type: 'string', maxLength: 200 }, unit: { type: 'string', maxLength: 32 },
          scale: { type: 'number' }, offset: { type: 'number' }, on: {}, off: {},
          write: {
            type: 'object', required: ['topic'], additionalProperties: false,
            properties: { topic: { type: 'string', minLength: 1, maxLength: 128, pattern: '^[^+#]+$' }, payload: { description: 'With {value}; absent: the value itself.' }, qos: { type: 'integer', minimum: 0, maximum: 2 }, retain: { type: 'boolean' } },
          },
        },
      },
    },
    events: {
      type: 'object', title: 'Events', default: {}, maxProperties: 20, description: 'Topics whose messages are announced as the event `message`, by name.',
      propertyNames: { pattern: '^[a-z][a-z0-9_]{0,63}$' }, additionalProperties: { type: 'string', maxLength: 128 },
    },
    read: { type: 'array', title: 'Said when the twin wakes', default: [], maxItems: 16, items: { type: 'object', required: ['topic', 'payload'], additionalProperties: false, properties: { topic: { type: 'string', minLength: 1, maxLength: 128, pattern: '^[^+#]+$' }, payload: { type: 'string', maxLength: 4096 } } } },
  },

  actions: {
    publish: {
      title: 'Publish below the device\'s topic',
      input: { topic: { type: 'string', minLength: 1, maxLength: 128, pattern: '^[^+#]+$' }, payload: { type: 'string', maxLength: 65_536 }, qos: { type: 'integer', minimum: 0, maximum: 2, default: 1 }, retain: { type: 'boolean', default: false } },
      run: (twin, { topic, payload, qos = 1, retain = false }) => { twin.publish(`${twin.settings.topic}/${topic}`, payload, { qos, retain }); },
    },
  },
  events: { message: { title: 'A message of a topic that is announced', data: { name: 'string', payload: 'string' } } },

  load(twin) {
    const properties = {};
    for (const [name, v] of Object.entries(twin.settings.values)) {
      properties[name] = { type: v.type ?? 'number', title: v.title ?? name, ...(v.unit ? { unit: v.unit } : {}), ...(v.write ? {} : { readOnly: true }) };
    }
    twin.describe({ properties });
    ask(twin);
  },
  connected(twin) { if (!twin.memory.asked) ask(twin); },
  disconnected(twin) { twin.memory.asked = false; },

  message(twin, topic, payload) {
    const { topic: base, values, events } = twin.settings;
    const below = topic === base ? '' : topic.slice(base.length + 1);
    let parsed, tried = false;
    for (const [name, v] of Object.entries(values)) {
      if (!fits(v.topic ?? '', below)) continue;
      if (v.path !== undefined && !tried) [parsed, tried] = [json(payload), true];
      const value = fromDevice(v, v.path === undefined ? payload : find(parsed, v.path));
      if (value === undefined) console.debug(`${name} is not in ${payload.slice(0, 100)}`);
      else twin.report(name, value);
    }
    for (const [name, of] of Object.entries(events)) if (fits(of, below)) twin.emit('message', { name, payload: payload.slice(0, 4096) });
  },

  // A value that the device tells is reported when it does; one that is only written, at once.
  set(twin, property, value) {
    const v = Object.hasOwn(twin.settings.values, property) ? twin.settings.values[property] : undefined;
    if (!v?.write) throw new Refusal(`${property} cannot be set`, { code: 2 });
    const { topic, payload = '{value}', qos = 1, retain = false } = v.write;
    const filled = fill(payload, toDevice(v, value));
    twin.publish(`${twin.settings.topic}/${topic}`, typeof filled === 'string' ? filled : JSON.stringify(filled), { qos, retain });
    if (v.topic === undefined && v.path === undefined) twin.report(property, value);
  },
});

// fits says whether a topic is meant by a filter, in which + stands for one level.
// ask says what has the device tell its state. At another broker than the node's own that can wait for the connection.
function ask(twin) {
  try {
    for (const { topic, payload } of twin.settings.read) twin.publish(`${twin.settings.topic}/${topic}`, payload, { qos: 1 });
    twin.memory.asked = true;
  } catch (error) {
    if (!(error instanceof CapabilityError)) throw error;
    twin.memory.asked = false;
  }
}

function fits(filter, topic) {
  const [want, have] = [filter.split('/'), topic.split('/')];
  return want.length === have.length && want.every((level, i) => level === '+' || level === have[i]);
}

function json(payload) {
  try {
    return JSON.parse(payload);
  } catch {
    return undefined;
  }
}

// fill puts a value where {value} stands: a text that is nothing else becomes the value itself.
function fill(template, value) {
  if (template === '{value}') return value;
  if (typeof template === 'string') return template.replaceAll('{value}', () => String(value));
  if (Array.isArray(template)) return template.map((item) => fill(item, value));
  if (template !== null && typeof template === 'object') return Object.fromEntries(Object.entries(template).map(([k, v]) => [k, fill(v, value)]));
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

const same = (a, b) => a === b || String(a) === String(b);

function fromDevice(v, raw) {
  const type = v.type ?? 'number';
  if (raw === null || raw === undefined) return raw;
  if (type === 'boolean') {
    if (same(raw, v.on ?? true)) return true;
    return same(raw, v.off ?? false) ? false : undefined;
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
