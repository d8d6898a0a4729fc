// Zigbee devices behind Zigbee2MQTT, and its bridge that finds them. See README.md.

export default driver({
  name: 'zigbee2mqtt',
  version: '1.0.0',
  title: 'Zigbee2MQTT device',
  description: 'Zigbee devices behind Zigbee2MQTT (1.17 or later), with what each of them says that it has; and the bridge, which finds them.',
  transport: {
    scheme: 'mqtt',
    subscribe: ['{base}/{device}', '{base}/{device}/availability', '{base}/bridge/state', '{base}/bridge/devices'],
    publish: ['{base}/{device}/set', '{base}/{device}/get', '{base}/bridge/request/+'],
  },

  settings: {
    base: { type: 'string', title: 'Base topic', default: 'zigbee2mqtt', minLength: 1, maxLength: 64, pattern: '^[^+#/ ]+(/[^+#/ ]+)*$' },
    device: { type: 'string', title: 'Device', default: 'bridge', minLength: 1, maxLength: 128, pattern: '^[^+#]+$', description: 'Its friendly name in Zigbee2MQTT; "bridge" for the bridge itself.' },
  },

  properties: {
    available: { type: 'boolean', title: 'Available' },
    model: { type: 'string', title: 'Model' },
    vendor: { type: 'string', title: 'Vendor' },
    ieee_address: { type: 'string', title: 'Address' },
    link_quality: { type: 'integer', title: 'Link quality' },
    devices: { type: 'integer', title: 'Devices', description: 'Of a bridge.' },
  },

  actions: {
    write: { title: 'Set any values', input: { type: 'object' }, run: (twin, values) => { write(twin, values); } },
    refresh: { title: 'Ask for the values now', safe: true, idempotent: true, run: (twin) => ask(twin) },
    permit_join: {
      title: 'Let new devices in', input: { seconds: { type: 'integer', minimum: 0, maximum: 254, default: 120 } },
      run(twin, { seconds = 120 }) {
        if (!isBridge(twin)) throw new Refusal('devices are let in by the bridge', { code: 2 });
        twin.publish(`${twin.settings.base}/bridge/request/permit_join`, { time: seconds }, { qos: 1 });
      },
    },
  },

  events: { action: { title: 'A button was used', data: { action: 'string' } } },

  message(twin, topic, payload) {
    const { base, device } = twin.settings;
    if (topic === `${base}/bridge/devices`) devices(twin, json(payload));
    else if (topic === `${base}/bridge/state`) availability(twin, isBridge(twin), payload);
    else if (topic === `${base}/${device}/availability`) availability(twin, !isBridge(twin), payload);
    else if (topic === `${base}/${device}` && !isBridge(twin)) values(twin, json(payload));
  },

  // A value is reported when the device says that it took it.
  set(twin, property, value) {
    const expose = twin.memory.exposes?.[property];
    if (!expose) throw new Refusal(`the device has no ${property} that can be set`, { code: 2 });
    write(twin, { [expose.property]: toDevice(expose, value) });
  },
});

const isBridge = (twin) => twin.settings.device === 'bridge';

function json(payload) {
  try {
    return JSON.parse(payload);
  } catch {
    return undefined;
  }
}

function write(twin, values) {
  const { base, device } = twin.settings;
  twin.publish(`${base}/${device}/set`, values, { qos: 1 });
}

function ask(twin) {
  const { base, device } = twin.settings;
  const names = Object.values(twin.memory.exposes ?? {}).filter((e) => e.access & 4).map((e) => [e.property, '']);
  if (names.length) twin.publish(`${base}/${device}/get`, Object.fromEntries(names), { qos: 1 });
}

// availability is {"state":"online"}, or of old online.
function availability(twin, concerned, payload) {
  if (!concerned) return;
  const state = json(payload)?.state ?? payload;
  if (state === 'online' || state === 'offline') twin.report('available', state === 'online');
}

// devices is the bridge's list: the bridge finds those that are no twins yet, a device learns what it has.
function devices(twin, list) {
  if (!Array.isArray(list)) return;
  const real = list.filter((d) => d !== null && typeof d === 'object' && typeof d.friendly_name === 'string' && d.type !== 'Coordinator');
  if (!isBridge(twin)) {
    const own = real.find((d) => d.friendly_name === twin.settings.device);
    if (own) learn(twin, own);
    return;
  }
  twin.report('devices', real.length);
  for (const d of real.slice(0, 250)) {
    twin.discover({
      network: 'zigbee', key: 'ieee_address', value: String(d.ieee_address ?? d.friendly_name), driver: 'zigbee2mqtt',
      name: `${d.friendly_name}${d.definition?.description ? ` (${d.definition.description})` : ''}`.slice(0, 500),
      settings: { base: twin.settings.base, device: d.friendly_name },
    });
  }
}

// NAMES are ours for theirs, with the unit where it is another's name: as in the standard interfaces.
const NAMES = {
  state: ['on', ''], brightness: ['brightness', '%'], temperature: ['temperature', 'Cel'], humidity: ['humidity', '%'], pressure: ['pressure', 'hPa'],
  occupancy: ['motion', ''], presence: ['presence', ''], contact: ['open', ''], water_leak: ['leak', ''], smoke: ['smoke', ''], illuminance: ['illuminance', 'lx'],
  illuminance_lux: ['illuminance', 'lx'], battery: ['battery', '%'], power: ['active_power', 'W'], energy: ['energy', 'kWh'], voltage: ['voltage', 'V'],
  current: ['current', 'A'], co2: ['co2', 'ppm'], position: ['position', '%'], linkquality: ['link_quality', ''],
  current_heating_setpoint: ['setpoint', 'Cel'], occupied_heating_setpoint: ['setpoint', 'Cel'], local_temperature: ['temperature', 'Cel'],
};
const TYPES = { binary: 'boolean', numeric: 'number', enum: 'string', text: 'string' };

function learn(twin, device) {
  const text = (v) => (typeof v === 'string' ? v : null);
  twin.report({ model: text(device.definition?.model ?? device.model_id), vendor: text(device.definition?.vendor ?? device.manufacturer), ieee_address: text(device.ieee_address) });
  const exposes = {}, properties = {};
  for (const e of flat(device.definition?.exposes ?? [])) {
    const type = TYPES[e.type];
    if (!type || typeof e.property !== 'string' || e.property === 'action' || e.property === 'linkquality') continue;
    const [name, unit] = Object.hasOwn(NAMES, e.property) ? NAMES[e.property] : [e.property.replace(/[^A-Za-z0-9_.-]/g, '_').slice(0, 64), e.unit ?? ''];
    if (!/^[A-Za-z0-9]/.test(name) || Object.hasOwn(exposes, name) || Object.keys(exposes).length >= 100) continue;
    const { property, access = 1, value_on, value_off, value_max } = e;
    exposes[name] = { property, access, type, value_on, value_off, value_max };
    properties[name] = { type, title: String(e.label ?? e.name ?? property), ...(unit ? { unit: String(unit) } : {}), ...(access & 2 ? {} : { readOnly: true }), ...limits(name, e) };
  }
  const text2 = JSON.stringify(exposes);
  if (text2 === JSON.stringify(twin.memory.exposes)) return;
  twin.memory.exposes = JSON.parse(text2);
  twin.describe({ properties });
}

// flat brings what lights, switches and others are made of to one level.
function flat(exposes) {
  return Array.isArray(exposes) ? exposes.filter((e) => e !== null && typeof e === 'object').flatMap((e) => (Array.isArray(e.features) && e.type !== 'composite' ? flat(e.features) : [e])) : [];
}

function limits(name, e) {
  if (name === 'brightness') return { minimum: 0, maximum: 100 };
  const out = {};
  if (typeof e.value_min === 'number') out.minimum = e.value_min;
  if (typeof e.value_max === 'number') out.maximum = e.value_max;
  if (Array.isArray(e.values) && e.values.length && e.values.every((v) => typeof v === 'string')) out.enum = e.values;
  return e.access & 2 ? out : {};
}

function toDevice(expose, value) {
  if (expose.type === 'boolean') return value ? expose.value_on ?? true : expose.value_off ?? false;
  if (expose.property === 'brightness') return Math.round(value * (expose.value_max ?? 254) / 100);
  return value;
}

function fromDevice(expose, value) {
  if (expose.type === 'boolean') {
    if (expose.property === 'contact') return typeof value === 'boolean' ? !value : undefined; // true: closed
    if (value === (expose.value_on ?? true)) return true;
    return value === (expose.value_off ?? false) ? false : undefined;
  }
  if (expose.property === 'brightness' && typeof value === 'number') return Math.round(value * 1000 / (expose.value_max ?? 254)) / 10;
  return value === null || typeof value === expose.type ? value : undefined;
}

function values(twin, state) {
  if (state === null || typeof state !== 'object' || Array.isArray(state)) {
    console.debug('no JSON object from the device');
    return;
  }
  for (const [name, expose] of Object.entries(twin.memory.exposes ?? {})) {
    if (!Object.hasOwn(state, expose.property)) continue;
    const value = fromDevice(expose, state[expose.property]);
    if (value !== undefined) twin.report(name, value);
  }
  if (Number.isInteger(state.linkquality)) twin.report('link_quality', state.linkquality);
  if (typeof state.action === 'string' && state.action !== '') twin.emit('action', { action: state.action });
}
