// A node watches itself: its own figures as properties of a twin, with rules, history and alarms like any other. See README.md.

// FIGURES are properties by name: the series of /metrics, whose values are added up, with the factor to the unit.
const FIGURES = {
  memory: ['process_resident_memory_bytes', 'MiBy', 'Memory', 1 / (1 << 20)],
  goroutines: ['go_goroutines', '', 'Goroutines', 1],
  uptime: ['process_start_time_seconds', 's', 'Time since its start', 1],
  twins: ['pollux_actors_active', '', 'Active actors', 1],
  commands_waiting: ['pollux_commands_queued', '', 'Commands that wait', 1],
  frames_waiting: ['pollux_frames_waiting', '', 'Frames that wait', 1],
  guest_memory: ['pollux_wasm_guest_bytes', 'MiBy', 'Memory of drivers', 1 / (1 << 20)],
  mqtt_clients: ['pollux_mqtt_clients', '', 'MQTT clients', 1],
  store_size: ['pollux_store_disk_bytes', 'MiBy', 'Store on disk', 1 / (1 << 20)],
  members: ['pollux_cluster_members', '', 'Nodes of the cluster', 1],
};
// RATES grow; their increase per second is the property.
const RATES = {
  processor: ['process_cpu_seconds_total', '%', 'Processor', 100],
  commands: ['pollux_commands_total', '/s', 'Commands', 1],
  calls: ['pollux_wasm_calls_total', '/s', 'Calls of drivers', 1],
  traps: ['pollux_wasm_traps_total', '/s', 'Crashes of drivers', 1],
  dropped: ['pollux_actors_dropped_total', '/s', 'Dropped', 1],
};

const describe = ([, unit, title]) => ({ type: 'number', title, ...(unit ? { unit } : {}) });

export default driver({
  name: 'node-monitor',
  version: '1.0.0',
  title: 'Node monitor',
  description: 'The figures of a Pollux node as properties: processor, memory, what waits, what was dropped, with alarms.',
  transports: [{ scheme: 'http', http: { probe: '/healthz' } }, { scheme: 'https', http: { probe: '/healthz' } }],

  settings: {
    token: { type: 'string', title: 'Key', writeOnly: true, maxLength: 256, default: '', description: 'An API key that may read metrics; empty where the address needs none.' },
    path: { type: 'string', title: 'Path of the metrics', default: '/metrics', maxLength: 256 },
    poll_s: { type: 'integer', title: 'Poll interval in seconds', minimum: 1, maximum: 3600, default: 15 },
    alarms: {
      type: 'object', title: 'Alarms', default: { processor: 180, dropped: 1 }, maxProperties: 20, description: 'The event `alarm` comes when a property goes above its value, and `calm` when it is back.',
      additionalProperties: { type: 'number' },
    },
  },

  properties: {
    healthy: { type: 'boolean', title: 'Answers' },
    ...Object.fromEntries([...Object.entries(FIGURES), ...Object.entries(RATES)].map(([name, figure]) => [name, describe(figure)])),
  },
  actions: { refresh: { title: 'Read the figures now', safe: true, idempotent: true, run: (twin) => look(twin) } },
  events: {
    alarm: { title: 'A figure is too high', data: { name: 'string', value: 'number', limit: 'number' } },
    calm: { title: 'A figure is back', data: { name: 'string', value: 'number', limit: 'number' } },
  },

  load(twin) {
    twin.every('poll', `${twin.settings.poll_s}s`);
    twin.after('now', 0);
  },
  timers: { poll: quietly, now: quietly },
});

async function quietly(twin) {
  try {
    await look(twin);
  } catch (error) {
    if (!(error instanceof Refusal) && !(error instanceof CapabilityError)) throw error;
    console.warn(error.message);
    twin.report('healthy', false);
  }
}

async function look(twin) {
  const { token, path } = twin.settings;
  const answer = await twin.fetch(path, { headers: token ? { authorization: `Bearer ${token}` } : {}, timeout: '5s' });
  if (!answer.ok) throw new Refusal(`${path} answers ${answer.status}`, { code: answer.status, retryable: answer.status >= 500 });
  const sums = totals(answer.text()), now = Date.now();
  const values = {};
  for (const [name, [series, , , factor]] of Object.entries(FIGURES)) {
    if (!(series in sums)) continue;
    values[name] = name === 'uptime' ? Math.round(now / 1000 - sums[series]) : tidy(sums[series] * factor);
  }
  const { at, counts = {} } = twin.memory;
  for (const [name, [series, , , factor]] of Object.entries(RATES)) {
    if (!(series in sums)) continue;
    const gone = (now - at) / 1000, grown = sums[series] - counts[series];
    if (gone > 0 && grown >= 0) values[name] = tidy(grown / gone * factor);
    counts[series] = sums[series];
  }
  twin.memory = { ...twin.memory, at: now, counts };
  twin.report({ ...values, healthy: true });
  alarms(twin, values);
}

const tidy = (n) => Math.round(n * 1000) / 1000;
const WANTED = new Set([...Object.values(FIGURES), ...Object.values(RATES)].map(([series]) => series));

// totals adds up the series of a name, whatever their labels: lines such as NAME{LABELS} VALUE.
function totals(text) {
  const sums = {};
  for (const line of text.split('\n')) {
    const name = /^[a-z_:][a-z0-9_:]{0,199}/i.exec(line)?.[0]; // bounded: a line without end would take all memory
    if (!WANTED.has(name)) continue;
    const value = Number(line.slice(line.lastIndexOf(' ') + 1));
    if (Number.isFinite(value)) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}

function alarms(twin, values) {
  const high = { ...twin.memory.high };
  for (const [name, limit] of Object.entries(twin.settings.alarms)) {
    const value = values[name];
    if (value === undefined || (value > limit) === (high[name] === true)) continue;
    high[name] = value > limit;
    twin.emit(high[name] ? 'alarm' : 'calm', { name, value, limit });
  }
  twin.memory.high = high;
}
