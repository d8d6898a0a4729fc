// LoRaWAN devices by a network server's webhook: ChirpStack v4 and The Things Stack v3. See README.md.

export default driver({
  name: 'lorawan',
  version: '1.0.0',
  title: 'LoRaWAN device',
  description: 'Devices of a LoRaWAN network server, by its webhook, with decoders for some models and for fields that settings describe; and the server, which finds them.',
  transport: { scheme: 'webhook', inbound: { token: '{token}' } },
  capabilities: ['call'],

  settings: {
    dev_eui: { type: 'string', title: 'Device EUI', default: '', pattern: '^([0-9A-Fa-f]{16})?$', description: 'Empty for the twin of the network server.' },
    token: { type: 'string', title: 'Token', writeOnly: true, maxLength: 256, default: '', description: 'What the network server sends as Authorization: Bearer.' },
    devices: {
      type: 'object', title: 'Devices', default: {}, maxProperties: 1000, description: 'Of a server: which twin a device is, such as {"a84041000181c061": "desk-12"}. Others come to the inbox.',
      propertyNames: { pattern: '^[0-9a-f]{16}$' }, additionalProperties: { type: 'string', minLength: 1, maxLength: 128 },
    },
    decoder: { type: 'string', title: 'Decoder', enum: ['server', 'cayenne', 'milesight', 'dragino-lht65', 'fields'], default: 'server', description: 'server: what the network server has decoded.' },
    fields: {
      type: 'array', title: 'Fields', default: [], maxItems: 64, description: 'Of the decoder "fields": where each value is in the payload.',
      items: {
        type: 'object', required: ['name', 'at', 'as'], additionalProperties: false,
        properties: {
          name: { type: 'string', pattern: '^[a-z][a-z0-9_]{0,63}$' }, port: { type: 'integer', minimum: 1, maximum: 223 }, at: { type: 'integer', minimum: 0, maximum: 240 },
          as: { enum: ['u8', 'i8', 'u16be', 'i16be', 'u16le', 'i16le', 'u24be', 'u32be', 'u32le', 'bit'] }, bit: { type: 'integer', minimum: 0, maximum: 7 },
          scale: { type: 'number' }, offset: { type: 'number' }, unit: { type: 'string', maxLength: 16 },
        },
      },
    },
  },

  properties: {
    temperature: { type: 'number', title: 'Temperature', unit: 'Cel' },
    humidity: { type: 'number', title: 'Relative humidity', unit: '%' },
    battery: { type: 'number', title: 'Battery', unit: '%' },
    battery_voltage: { type: 'number', title: 'Battery voltage', unit: 'V' },
    rssi: { type: 'number', title: 'Signal of the best gateway', unit: 'dB[mW]' },
    snr: { type: 'number', title: 'Signal to noise', unit: 'dB' },
    frame: { type: 'integer', title: 'Frame counter' },
    received: { type: 'integer', title: 'Uplinks of a server' },
  },

  actions: {
    uplink: { title: 'Take an uplink', description: 'From the twin of the network server.', input: { type: 'object' }, run: (twin, uplink) => { take(twin, uplink); } },
  },
  events: { joined: { title: 'The device joined its network', data: { dev_eui: 'string' } } },

  async webhook(twin, { method, query, body }) {
    if (method !== 'POST') return { status: 405 };
    const message = read(typeof body === 'string' ? body : '');
    if (!message) return { status: 400, body: { error: 'this is no message of ChirpStack or The Things Stack' } };
    if (query?.event === 'join' || message.join) {
      if (own(twin, message)) twin.emit('joined', { dev_eui: message.dev_eui });
      return { status: 204 };
    }
    if (!message.payload) return { status: 204 }; // acknowledgements, status and the like
    if (twin.settings.dev_eui) {
      if (!own(twin, message)) return { status: 403, body: { error: `this twin is the device ${twin.settings.dev_eui.toLowerCase()}` } };
      take(twin, message);
      return { status: 204 };
    }
    return deliver(twin, message);
  },
});

const own = (twin, message) => twin.settings.dev_eui.toLowerCase() === message.dev_eui;

// read makes one form of both servers' messages.
function read(body) {
  let m;
  try {
    m = JSON.parse(body);
  } catch {
    return undefined;
  }
  const chirpstack = m?.deviceInfo?.devEui, things = m?.end_device_ids?.dev_eui;
  const eui = typeof chirpstack === 'string' ? chirpstack : things;
  if (typeof eui !== 'string' || !/^[0-9A-Fa-f]{16}$/.test(eui)) return undefined;
  const head = { dev_eui: eui.toLowerCase() };
  if (chirpstack) {
    return { ...head, name: m.deviceInfo.deviceName, model: m.deviceInfo.deviceProfileName, join: m.devAddr !== undefined && m.data === undefined && m.fCnt === undefined,
      port: m.fPort, frame: m.fCnt, payload: m.data, decoded: m.object, time: m.time, radio: m.rxInfo };
  }
  const up = m.uplink_message ?? {};
  return { ...head, name: m.end_device_ids.device_id, model: up.version_ids?.model_id, join: m.join_accept !== undefined,
    port: up.f_port, frame: up.f_cnt, payload: up.frm_payload, decoded: up.decoded_payload, time: up.received_at, radio: up.rx_metadata };
}

// deliver brings an uplink from the server's twin to the device's.
async function deliver(twin, message) {
  twin.report('received', (twin.state.received ?? 0) + 1);
  const name = twin.settings.devices[message.dev_eui];
  if (name === undefined) {
    twin.discover({ network: 'lorawan', key: 'dev_eui', value: message.dev_eui, driver: 'lorawan', name: String(message.name ?? message.dev_eui).slice(0, 500), settings: { dev_eui: message.dev_eui } });
    return { status: 202 };
  }
  try {
    await twin.other(name).call('uplink', message);
    return { status: 204 };
  } catch (error) {
    if (!(error instanceof TwinError) && !(error instanceof CapabilityError)) throw error;
    console.warn(error.message);
    return { status: 503, body: { error: error.message } };
  }
}

// take decodes an uplink and reports it, as of when it was received.
function take(twin, { dev_eui, port, frame, payload, decoded, time, radio }) {
  if (dev_eui !== twin.settings.dev_eui.toLowerCase()) throw new Refusal(`the uplink is of ${dev_eui}`, { code: 2 });
  let bytes;
  try {
    bytes = Uint8Array.fromBase64(payload);
  } catch {
    throw new Refusal('the payload is no base64', { code: 3 });
  }
  const values = decode(twin.settings, bytes, port, decoded);
  const at = Date.parse(time), when = Number.isFinite(at) ? { time: Math.min(at, Date.now()) } : {};
  describe(twin, values);
  const reported = Object.fromEntries(Object.entries(values).map(([name, { value }]) => [name, value]));
  if (Object.keys(reported).length) twin.report(reported, when);
  if (Number.isInteger(frame)) twin.report('frame', frame, when);
  const best = (Array.isArray(radio) ? radio : []).filter((r) => typeof r?.rssi === 'number').sort((a, b) => b.rssi - a.rssi)[0];
  if (best) twin.report({ rssi: best.rssi, ...(typeof best.snr === 'number' ? { snr: best.snr } : {}) }, when);
}

const KNOWN = ['temperature', 'humidity', 'battery', 'battery_voltage', 'rssi', 'snr', 'frame', 'received'];

// describe adds what this device was found to say.
function describe(twin, values) {
  const model = (twin.memory.model ??= {});
  let more = false;
  for (const [name, { value, unit }] of Object.entries(values)) {
    if (KNOWN.includes(name) || Object.hasOwn(model, name) || Object.keys(model).length >= 100) continue;
    model[name] = { type: typeof value, title: name, readOnly: true, ...(unit ? { unit } : {}) };
    more = true;
  }
  if (more) twin.describe({ properties: model });
}

const tidy = (n) => Math.round(n * 1e6) / 1e6;

// decode gives {NAME: {value, unit}}.
function decode(settings, bytes, port, decoded) {
  switch (settings.decoder) {
    case 'cayenne': return cayenne(bytes);
    case 'milesight': return milesight(bytes);
    case 'dragino-lht65': return lht65(bytes);
    case 'fields': return byFields(settings.fields, bytes, port);
  }
  return plain(decoded);
}

// plain takes what the server decoded: values one or two levels deep.
function plain(decoded, before = '', out = {}) {
  if (decoded === null || typeof decoded !== 'object') return out;
  for (const [key, value] of Object.entries(decoded)) {
    const name = (before + key).replace(/[^A-Za-z0-9_]/g, '_').toLowerCase().slice(0, 64);
    if (['number', 'boolean', 'string'].includes(typeof value)) out[name] = { value };
    else if (before === '') plain(value, `${key}_`, out);
  }
  return out;
}

// CAYENNE are types of Cayenne LPP: name, bytes, factor, signed, unit.
const CAYENNE = {
  0x00: ['digital_input', 1, 1], 0x01: ['digital_output', 1, 1], 0x02: ['analog_input', 2, 0.01, true], 0x03: ['analog_output', 2, 0.01, true],
  0x65: ['illuminance', 2, 1, false, 'lx'], 0x66: ['presence', 1, 1], 0x67: ['temperature', 2, 0.1, true, 'Cel'], 0x68: ['humidity', 1, 0.5, false, '%'],
  0x73: ['pressure', 2, 0.1, false, 'hPa'], 0x74: ['voltage', 2, 0.01, false, 'V'], 0x75: ['current', 2, 0.001, false, 'A'], 0x78: ['percentage', 1, 1, false, '%'],
  0x79: ['altitude', 2, 1, true, 'm'], 0x7d: ['co2', 2, 1, false, 'ppm'], 0x80: ['power', 2, 1, false, 'W'], 0x83: ['energy', 4, 0.001, false, 'kWh'],
};

function big(bytes, at, size, signed) {
  let n = 0;
  for (let i = 0; i < size; i++) n = n * 256 + bytes[at + i];
  return signed && n >= 2 ** (8 * size - 1) ? n - 2 ** (8 * size) : n;
}
const little = (bytes, at, size, signed) => big(bytes.slice(at, at + size).reverse(), 0, size, signed);

function cayenne(bytes) {
  const out = {};
  for (let at = 0; at + 2 < bytes.length;) {
    const [channel, type] = [bytes[at], CAYENNE[bytes[at + 1]]];
    if (!type || at + 2 + type[1] > bytes.length) throw new Refusal(`Cayenne LPP: no type ${bytes[at + 1]} at byte ${at + 1}`, { code: 3 });
    const [name, size, factor, signed, unit] = type;
    out[Object.hasOwn(out, name) ? `${name}_${channel}` : name] = { value: tidy(big(bytes, at + 2, size, signed) * factor), unit };
    at += 2 + size;
  }
  return out;
}

// milesight reads channels of Milesight's EM, VS and WS sensors.
function milesight(bytes) {
  const out = {};
  for (let at = 0; at + 2 < bytes.length;) {
    const id = (bytes[at] << 8) | bytes[at + 1];
    const from = at + 2;
    if (id === 0x0175) { out.battery = { value: bytes[from], unit: '%' }; at = from + 1; }
    else if (id === 0x0367) { out.temperature = { value: tidy(little(bytes, from, 2, true) / 10), unit: 'Cel' }; at = from + 2; }
    else if (id === 0x0468) { out.humidity = { value: bytes[from] / 2, unit: '%' }; at = from + 1; }
    else if (id === 0x0500) { out.open = { value: bytes[from] === 1 }; at = from + 1; }
    else if (id === 0x0600) { out.open = { value: bytes[from] === 1 }; at = from + 1; }
    else if (id === 0x077d) { out.co2 = { value: little(bytes, from, 2), unit: 'ppm' }; at = from + 2; }
    else if (id === 0x0973) { out.pressure = { value: tidy(little(bytes, from, 2) / 10), unit: 'hPa' }; at = from + 2; }
    else break; // of later firmware: what follows cannot be told apart
    if (at > bytes.length) throw new Refusal('the payload ends within a value', { code: 3 });
  }
  return out;
}

// lht65 reads Dragino's LHT65 without an external sensor.
function lht65(bytes) {
  if (bytes.length < 7) throw new Refusal(`an LHT65 sends 11 bytes, here are ${bytes.length}`, { code: 3 });
  return {
    battery_voltage: { value: (big(bytes, 0, 2) & 0x3fff) / 1000, unit: 'V' }, temperature: { value: big(bytes, 2, 2, true) / 100, unit: 'Cel' },
    humidity: { value: big(bytes, 4, 2) / 10, unit: '%' },
  };
}

const READ = {
  u8: (b, at) => big(b, at, 1), i8: (b, at) => big(b, at, 1, true), u16be: (b, at) => big(b, at, 2), i16be: (b, at) => big(b, at, 2, true),
  u16le: (b, at) => little(b, at, 2), i16le: (b, at) => little(b, at, 2, true), u24be: (b, at) => big(b, at, 3), u32be: (b, at) => big(b, at, 4), u32le: (b, at) => little(b, at, 4),
};
const SIZE = { u8: 1, i8: 1, bit: 1, u16be: 2, i16be: 2, u16le: 2, i16le: 2, u24be: 3, u32be: 4, u32le: 4 };

function byFields(fields, bytes, port) {
  const out = {};
  for (const f of fields) {
    if ((f.port !== undefined && f.port !== port) || f.at + SIZE[f.as] > bytes.length) continue;
    const value = f.as === 'bit' ? ((bytes[f.at] >> (f.bit ?? 0)) & 1) === 1 : tidy(READ[f.as](bytes, f.at) * (f.scale ?? 1) + (f.offset ?? 0));
    out[f.name] = { value, unit: f.unit };
  }
  return out;
}
