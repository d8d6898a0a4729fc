// Shelly devices of the second generation and later (Plus, Pro, Gen3, Gen4), over MQTT. See README.md.

export default driver({
  name: 'shelly',
  version: '1.1.0',
  title: 'Shelly device',
  description: 'Relays, plugs, covers, lights and sensors of Shelly, second generation and later, over MQTT.',
  transport: {
    scheme: 'mqtt',
    subscribe: ['{topic}/status/+', '{topic}/events/rpc', '{topic}/pollux/rpc'],
    publish: ['{topic}/rpc'],
    device_subscribe: ['{topic}/command', '{topic}/command/+'],
    device_publish: ['{topic}/debug/log', '{topic}/events/+', '{topic}/status/#'],
    will: { topic: '{topic}/online', online: 'true', offline: 'false' },
  },

  settings: {
    topic: { type: 'string', title: 'Topic prefix', required: true, minLength: 1, maxLength: 128, pattern: '^[^+#/ ]+(/[^+#/ ]+)*$', description: 'As the device\'s MQTT settings have it, such as shellyplus1pm-a8032abe54dc.' },
    poll_s: { type: 'integer', title: 'Poll interval in seconds', minimum: 10, maximum: 3600, default: 300, description: 'How often the whole status is asked for; changes come by themselves.' },
  },

  properties: {
    model: { type: 'string', title: 'Model' },
    name: { type: 'string', title: 'Name' },
    firmware: { type: 'string', title: 'Firmware' },
    uptime_s: { type: 'integer', title: 'Uptime', unit: 's' },
    wifi_rssi: { type: 'integer', title: 'Wi-Fi signal', unit: 'dB[mW]' },
  },

  actions: {
    switch: { title: 'Switch a relay', idempotent: true, input: { relay: { type: 'integer', minimum: 0, maximum: 63, default: 0 }, on: 'boolean' }, run: (twin, { relay = 0, on }) => rpc(twin, 'Switch.Set', { id: relay, on }) },
    toggle: { title: 'Toggle a relay', input: { relay: { type: 'integer', minimum: 0, maximum: 63, default: 0 } }, run: (twin, input) => rpc(twin, 'Switch.Toggle', { id: input?.relay ?? 0 }) },
    light: {
      title: 'Set a light', idempotent: true,
      input: { light: { type: 'integer', minimum: 0, maximum: 63, default: 0 }, on: { type: 'boolean', optional: true }, brightness: { type: 'number', minimum: 0, maximum: 100, optional: true } },
      run: (twin, { light = 0, ...rest }) => rpc(twin, 'Light.Set', { id: light, ...rest }),
    },
    cover: {
      title: 'Move a cover',
      input: { cover: { type: 'integer', minimum: 0, maximum: 63, default: 0 }, do: { enum: ['open', 'close', 'stop', 'position'] }, position: { type: 'integer', minimum: 0, maximum: 100, optional: true } },
      run(twin, { cover = 0, do: what, position }) {
        if (what !== 'position') return rpc(twin, `Cover.${what[0].toUpperCase()}${what.slice(1)}`, { id: cover });
        if (position === undefined) throw new Refusal('position needs a position, 0 (closed) to 100 (open)', { code: 2 });
        return rpc(twin, 'Cover.GoToPosition', { id: cover, pos: position });
      },
    },
    refresh: { title: 'Ask for everything now', safe: true, idempotent: true, run: (twin) => rpc(twin, 'Shelly.GetStatus', {}) },
    rpc: {
      title: 'Call any method of the device',
      input: { method: { type: 'string', pattern: '^[A-Za-z][A-Za-z0-9.]{0,63}$' }, params: { type: 'object', default: {} } },
      output: {}, run: (twin, { method, params = {} }) => rpc(twin, method, params, true),
    },
  },

  scan: {
    over: 'udp', port: 5353, local_port: 5353, group: '224.0.0.251',
    options: { type: 'object', properties: { address: { type: 'string', maxLength: 64, description: 'Ask this ADDRESS[:PORT] in place of everybody.' } }, additionalProperties: false },
    run: (twin, { address = '' }) => twin.send(mdns.query('_shelly._tcp'), address),
    found(twin, from, answer) {
      for (const { type, instance, address, txt } of mdns.services(answer)) {
        // The first generation does not say gen, and speaks otherwise.
        if (type.toLowerCase() !== '_shelly._tcp' || !(Number(txt.gen) >= 2) || !/^[a-z0-9-]{1,100}$/i.test(instance)) continue;
        const id = instance.toLowerCase(), at = address ?? from.slice(0, from.lastIndexOf(':'));
        // The device's id is the topic prefix that it comes with.
        twin.discover({ network: 'shelly', key: 'id', value: id, driver: 'shelly', name: `Shelly ${txt.app ?? id} at ${at}`, settings: { topic: id } });
      }
    },
  },

  events: { pressed: { title: 'A button or switch was used', data: { input: 'integer', action: 'string' } } },

  load: (twin) => twin.every('poll', `${twin.settings.poll_s}s`),
  connected(twin) {
    tell(twin, 'Shelly.GetDeviceInfo', {});
    tell(twin, 'Shelly.GetStatus', {});
  },

  message,

  answers: {
    rpc(twin, payload, { id, whole }, topic) {
      const answer = topic.endsWith('/pollux/rpc') ? json(payload) : undefined;
      if (answer?.id !== id) {
        message(twin, topic, payload);
        return twin.wait();
      }
      if (answer.error) throw new Refusal(String(answer.error.message ?? 'the device refuses'), { code: codeOf(answer.error.code), retryable: answer.error.code === -108 });
      if (answer.result) took(twin, answer.result);
      return whole ? answer.result ?? null : undefined;
    },
  },

  // on, on_1, brightness, position …: what the device was found to have.
  set(twin, property, value) {
    const [, name, number] = /^(.*?)(?:_(\d+))?$/.exec(property);
    const [id, of] = [Number(number ?? 0), twin.memory.kinds?.[property]];
    if (name === 'on' && of === 'switch') return rpc(twin, 'Switch.Set', { id, on: value });
    if (name === 'on' && of === 'light') return rpc(twin, 'Light.Set', { id, on: value });
    if (name === 'brightness') return rpc(twin, 'Light.Set', { id, on: value > 0, ...(value > 0 ? { brightness: value } : {}) });
    if (name === 'position') return rpc(twin, 'Cover.GoToPosition', { id, pos: Math.round(value) });
    throw new Refusal(`${property} cannot be set`, { code: 2 });
  },

  timers: { poll: (twin) => tell(twin, 'Shelly.GetStatus', {}) },
});

const WRITABLE = ['on', 'brightness', 'position'];

// Codes of refusals are above 0; the device's are below.
const codeOf = (code) => (Number.isInteger(code) && code !== 0 ? Math.abs(code) : 1);

function tell(twin, method, params) {
  const id = ((twin.memory.id ?? 0) % 1_000_000) + 1;
  twin.memory.id = id;
  const { topic } = twin.settings;
  twin.publish(`${topic}/rpc`, { id, src: `${topic}/pollux`, method, params }, { qos: 1 });
  return id;
}

function rpc(twin, method, params, whole = false) {
  return twin.wait('rpc', { id: tell(twin, method, params), whole });
}

function json(payload) {
  try {
    const value = JSON.parse(payload);
    return value !== null && typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}

function message(twin, topic, payload) {
  const value = json(payload);
  if (!value) {
    console.debug('no JSON on', topic);
    return;
  }
  const below = topic.slice(twin.settings.topic.length + 1);
  if (below.startsWith('status/')) component(twin, below.slice(7), value);
  else if (below === 'events/rpc' && value.method === 'NotifyEvent') events(twin, value.params?.events);
  else if (below === 'events/rpc') took(twin, value.params);
  else if (below === 'pollux/rpc') took(twin, value.result);
}

// took takes a status with its components, or what the device says of itself.
function took(twin, result) {
  if (result === null || typeof result !== 'object') return;
  const { gen, model, app, name, ver } = result;
  if (typeof gen === 'number') report(twin, { model: model ?? app, name, firmware: ver });
  for (const [key, value] of Object.entries(result)) if (value !== null && typeof value === 'object') component(twin, key, value);
}

// FIELDS are the values of components: where they are, and what they become.
const FIELDS = {
  switch: [['output', 'on', 'boolean', 'Relay'], ['apower', 'active_power', 'number', 'Power', 'W'], ['voltage', 'voltage', 'number', 'Voltage', 'V'],
    ['current', 'current', 'number', 'Current', 'A'], ['aenergy.total', 'energy', 'number', 'Energy', 'kWh', 0.001], ['temperature.tC', 'device_temperature', 'number', 'Temperature inside', 'Cel']],
  light: [['output', 'on', 'boolean', 'Light'], ['brightness', 'brightness', 'number', 'Brightness', '%']],
  cover: [['state', 'cover_state', 'string', 'Cover'], ['current_pos', 'position', 'number', 'Position', '%'], ['apower', 'active_power', 'number', 'Power', 'W']],
  input: [['state', 'input', 'boolean', 'Input']],
  temperature: [['tC', 'temperature', 'number', 'Temperature', 'Cel']],
  humidity: [['rh', 'humidity', 'number', 'Relative humidity', '%']],
  illuminance: [['lux', 'illuminance', 'number', 'Illuminance', 'lx']],
  devicepower: [['battery.percent', 'battery', 'number', 'Battery', '%']],
  smoke: [['alarm', 'smoke', 'boolean', 'Smoke']],
  flood: [['alarm', 'leak', 'boolean', 'Water']],
  em: [['total_act_power', 'active_power', 'number', 'Power', 'W'], ['total_current', 'current', 'number', 'Current', 'A']],
  pm1: [['apower', 'active_power', 'number', 'Power', 'W'], ['voltage', 'voltage', 'number', 'Voltage', 'V'], ['aenergy.total', 'energy', 'number', 'Energy', 'kWh', 0.001]],
};

function component(twin, key, value) {
  if (key === 'sys') report(twin, { uptime_s: value.uptime });
  if (key === 'wifi') report(twin, { wifi_rssi: value.rssi });
  const [kind, number = '0'] = key.split(':');
  if (!Object.hasOwn(FIELDS, kind) || !/^\d{1,3}$/.test(number)) return;
  for (const [path, name, type, title, unit, factor = 1] of FIELDS[kind]) {
    const raw = path.split('.').reduce((v, step) => v?.[step], value);
    const property = number === '0' || number === '100' ? name : `${name}_${number}`;
    if (raw === undefined || (raw !== null && typeof raw !== type)) continue;
    know(twin, property, kind, { type, title: number === '0' ? title : `${title} ${number}`, ...(unit ? { unit } : {}), ...(WRITABLE.includes(name) ? {} : { readOnly: true }) });
    twin.report(property, type === 'number' && raw !== null ? Math.round(raw * factor * 1e6) / 1e6 : raw);
  }
}

// know adds to the twin's model what this unit has, once.
function know(twin, property, kind, schema) {
  const kinds = (twin.memory.kinds ??= {}), model = (twin.memory.model ??= {});
  if (Object.hasOwn(model, property) || Object.keys(model).length >= 200) return;
  kinds[property] = kind;
  model[property] = schema;
  twin.describe({ properties: model });
}

function report(twin, values) {
  for (const [name, value] of Object.entries(values)) {
    const fits = name === 'uptime_s' || name === 'wifi_rssi' ? Number.isInteger(value) : typeof value === 'string';
    if (fits) twin.report(name, value);
  }
}

function events(twin, list) {
  if (!Array.isArray(list)) return;
  for (const e of list) {
    const input = /^input:(\d+)$/.exec(e?.component ?? '');
    if (input && typeof e.event === 'string') twin.emit('pressed', { input: Number(input[1]), action: e.event });
  }
}
