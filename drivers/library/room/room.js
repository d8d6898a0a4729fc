// A room: ties the twins of a System together, so that people switch a room and not its devices. See README.md.

export default driver({
  name: 'room',
  version: '1.0.0',
  title: 'Meeting room',
  description: 'Logic without a device: switches the displays, sources, sound and lights of a System together, and off when nobody is there.',
  capabilities: ['call', 'subscribe'],
  interfaces: ['Powerable', 'InputSelectable', 'Volume'],

  settings: {
    system: { type: 'string', title: 'System', required: true, minLength: 1, maxLength: 128, description: 'Its id. The names below are those of its twins.' },
    displays: { type: 'array', title: 'Displays', default: ['Display_1'], maxItems: 8, items: { type: 'string', minLength: 1, maxLength: 128 } },
    switcher: { type: 'string', title: 'Switcher', default: '', maxLength: 128 },
    sound: { type: 'string', title: 'Sound', default: '', maxLength: 128, description: 'The twin that has volume and mute_audio.' },
    lights: { type: 'array', title: 'Lights', default: [], maxItems: 16, items: { type: 'string', minLength: 1, maxLength: 128 } },
    presence: { type: 'string', title: 'Presence', default: '', maxLength: 128, description: 'A twin with the property presence or motion.' },
    presence_property: { type: 'string', title: 'Property of presence', enum: ['presence', 'motion'], default: 'presence' },
    empty_min: { type: 'integer', title: 'Off after so many minutes without anybody', minimum: 0, maximum: 1440, default: 15, description: '0: never.' },
    off_at: { type: 'string', title: 'Off at', default: '', maxLength: 64, description: 'A cron schedule, such as "0 20 * * *"; empty: never.' },
    zone: { type: 'string', title: 'Time zone', default: 'UTC' },
    sources: {
      type: 'object', title: 'Sources', default: {}, maxProperties: 32, description: 'By name: what the displays and the switcher are set to, such as {"laptop": {"display": "digital1", "switcher": "3"}}.',
      propertyNames: { pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$' },
      additionalProperties: { type: 'object', additionalProperties: false, properties: { display: { type: 'string', maxLength: 64 }, switcher: { type: 'string', maxLength: 64 } } },
    },
  },

  properties: {
    power: { type: 'boolean', title: 'On', set: (twin, on) => (on ? start(twin) : stop(twin)) },
    input: { type: 'string', title: 'Source', maxLength: 64, set: (twin, source) => start(twin, source) },
    volume: { type: 'number', title: 'Volume', unit: '%', minimum: 0, maximum: 100, set: (twin, volume) => all(twin, [[soundOf(twin), 'volume', volume]]) },
    mute_audio: { type: 'boolean', title: 'Sound muted', set: (twin, on) => all(twin, [[soundOf(twin), 'mute_audio', on]]) },
    presence: { type: 'boolean', title: 'Somebody is there' },
    trouble: { type: 'string', title: 'Trouble', description: 'What did not work last; empty: everything did.' },
  },

  actions: {
    start: { title: 'Begin a meeting', input: { source: { type: 'string', maxLength: 64, optional: true } }, run: (twin, input) => start(twin, input?.source) },
    stop: { title: 'End a meeting', run: (twin) => stop(twin) },
  },
  events: { emptied: { title: 'Switched off because nobody was there', data: { minutes: 'integer' } } },

  load(twin) {
    const { system, displays, switcher, sound, presence, presence_property, off_at, zone } = twin.settings;
    for (const name of displays) twin.other(name, system).subscribe('power');
    if (switcher) twin.other(switcher, system).subscribe('input');
    if (sound) for (const property of ['volume', 'mute_audio']) twin.other(sound, system).subscribe(property);
    if (presence) twin.other(presence, system).subscribe(presence_property);
    if (off_at) twin.cron('off', off_at, zone);
    else twin.cancel('off');
  },

  changed(twin, { name, property, value, quality }) {
    const { displays, presence, sound, switcher, empty_min } = twin.settings;
    if (displays.includes(name) && property === 'power') {
      twin.memory.on = { ...twin.memory.on, [name]: value === true };
      twin.report('power', displays.some((d) => twin.memory.on[d]), { quality });
    } else if (name === presence) {
      twin.report('presence', value === true, { quality });
      if (value === true || empty_min === 0) twin.cancel('empty');
      else if (twin.state.presence !== undefined) twin.after('empty', `${empty_min}m`, { minutes: empty_min });
    } else if (name === sound && ['volume', 'mute_audio'].includes(property)) {
      if (typeof value === (property === 'volume' ? 'number' : 'boolean')) twin.report(property, value, { quality });
    } else if (name === switcher && property === 'input') {
      const source = Object.entries(twin.settings.sources).find(([, s]) => s.switcher === value);
      if (source) twin.report('input', source[0], { quality });
    }
  },

  timers: {
    off: async (twin) => { await quietly(() => stop(twin)); },
    async empty(twin, { minutes }) {
      if (twin.state.presence === true || twin.state.power !== true) return;
      twin.emit('emptied', { minutes });
      await quietly(() => stop(twin));
    },
  },
});

// quietly: what does not work is in `trouble`, and in the log.
async function quietly(what) {
  try {
    await what();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    console.warn(error.message);
  }
}

function soundOf(twin) {
  if (!twin.settings.sound) throw new Refusal('the room has no sound', { code: 2 });
  return twin.settings.sound;
}

async function start(twin, source) {
  const { displays, switcher, lights, sources } = twin.settings;
  const steps = [...displays.map((name) => [name, 'power', true]), ...lights.map((name) => [name, 'on', true])];
  if (source !== undefined) {
    if (!Object.hasOwn(sources, source)) throw new Refusal(`there is no source ${source}; there are ${Object.keys(sources).join(', ') || 'none'}`, { code: 2 });
    const { display, switcher: input } = sources[source];
    if (display) for (const name of displays) steps.push([name, 'input', display]);
    if (switcher && input) steps.push([switcher, 'input', input]);
  }
  await all(twin, steps);
  twin.report('power', true);
  if (source !== undefined) twin.report('input', source);
}

async function stop(twin) {
  const { displays, lights } = twin.settings;
  await all(twin, [...displays.map((name) => [name, 'power', false]), ...lights.map((name) => [name, 'on', false])]);
  twin.report('power', false);
}

// all sets values of the system's twins. One that fails keeps none of the others; the first trouble is told.
async function all(twin, steps) {
  const trouble = [];
  for (const [name, property, value] of steps) {
    try {
      await twin.other(name, twin.settings.system).set(property, value, { timeout: '3s' });
    } catch (error) {
      if (!(error instanceof TwinError) && !(error instanceof CapabilityError)) throw error;
      trouble.push(error.message);
    }
  }
  if (trouble.length === steps.length && steps.length > 0) throw new Refusal(trouble[0], { code: 3, retryable: true });
  for (const text of trouble) console.warn(text);
  twin.report('trouble', trouble.join('; ').slice(0, 1000));
}
