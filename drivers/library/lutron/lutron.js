// Lutron RadioRA 2 and HomeWorks QS, by the Lutron integration protocol over TCP. See README.md.

const PAUSE = '100ms'; // between two commands: a processor that is told more at once loses some
const BUTTONS = { 3: 'press', 4: 'release', 5: 'hold', 6: 'double', 32: 'hold_release' };
const MONITORED = { buttons: 3, leds: 4, zones: 5, occupancy: 6, scenes: 8 };
const ERRORS = {
  1: 'wrong number of parameters', 2: 'nothing has this id', 3: 'the device does not know this action',
  4: 'a value is out of range', 5: 'a value is malformed', 6: 'the device does not know this command',
};

const ids = (title, description) => ({
  type: 'object', title, description, default: {}, maxProperties: 100,
  propertyNames: { pattern: '^[a-z0-9][a-z0-9_]{0,49}$' }, additionalProperties: { type: 'integer', minimum: 1, maximum: 99_999 },
});
const name = (title) => ({ type: 'string', title, minLength: 1, maxLength: 50 });
const percent = (title) => ({ type: 'number', title, unit: '%', minimum: 0, maximum: 100 });
const seconds = { type: 'number', title: 'Fade', unit: 's', minimum: 0, maximum: 14_400, optional: true };

export default driver({
  name: 'lutron',
  version: '1.0.0',
  title: 'Lutron lighting',
  description: 'RadioRA 2 and HomeWorks QS: zones, areas with scenes, and keypads, by the Lutron integration protocol over TCP.',
  transport: { scheme: 'tcp', default_port: 23, idle_timeout_ms: 150_000 }, // raw: its prompts have no end of line
  interfaces: ['Lighting', 'Dimmable'],

  settings: {
    login: { type: 'string', title: 'Login', maxLength: 64, default: 'lutron', pattern: '^[^\\r\\n]*$' },
    password: { type: 'string', title: 'Password', writeOnly: true, maxLength: 64, default: 'integration', pattern: '^[^\\r\\n]*$' },
    zones: ids('Zones', 'Integration ids by name, such as {"kitchen": 2}: dimmers, switches, shades.'),
    areas: ids('Areas', 'Integration ids by name, such as {"lobby": 5}.'),
    keypads: ids('Keypads', 'Integration ids by name, such as {"door": 17}.'),
    scenes: {
      type: 'object', title: 'Names of scenes', default: {}, maxProperties: 64, description: 'Such as {"off": 0, "talk": 3}. Others are called by their number.',
      propertyNames: { pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$' }, additionalProperties: { type: 'integer', minimum: 0, maximum: 65_535 },
    },
    zone: { type: 'string', title: 'Main zone', maxLength: 50, default: '', description: 'The zone that `brightness` and `on` are about; without it the first by name.' },
    area: { type: 'string', title: 'Main area', maxLength: 50, default: '', description: 'The area that `scene`, `level` and `fade` are about; without it the first by name.' },
    poll_s: { type: 'integer', title: 'Poll interval in seconds', minimum: 10, maximum: 120, default: 60 },
  },

  properties: {
    scene: { type: 'string', title: 'Scene', maxLength: 64, set: (twin, scene) => recall(twin, main(twin, 'area'), scene) },
    level: { ...percent('Level of all lights'), set: (twin, level) => fadeArea(twin, level) },
    brightness: { ...percent('Brightness'), set: (twin, level) => dim(twin, main(twin, 'zone'), level) },
    on: { type: 'boolean', title: 'On', set: (twin, on) => dim(twin, main(twin, 'zone'), on ? 100 : 0) },
  },

  actions: {
    fade: { title: 'Bring the main area to a level within some time', idempotent: true, input: { level: percent('Level'), seconds }, run: (twin, { level, seconds }) => fadeArea(twin, level, seconds) },
    dim: { title: 'Bring a zone to a level within some time', idempotent: true, input: { zone: name('Zone'), level: percent('Level'), seconds }, run: (twin, { zone, level, seconds }) => dim(twin, zone, level, seconds) },
    raise: { title: 'Raise a zone until it is stopped', input: { zone: name('Zone') }, run: (twin, { zone }) => move(twin, zone, 2) },
    lower: { title: 'Lower a zone until it is stopped', input: { zone: name('Zone') }, run: (twin, { zone }) => move(twin, zone, 3) },
    stop: { title: 'Stop raising or lowering a zone', idempotent: true, input: { zone: name('Zone') }, run: (twin, { zone }) => move(twin, zone, 4) },
    recall: { title: 'Call a scene of an area', idempotent: true, input: { area: name('Area'), scene: { type: 'string', minLength: 1, maxLength: 64 } }, run: (twin, { area, scene }) => recall(twin, area, scene) },
    press: {
      title: 'Press a button and let go', input: { keypad: name('Keypad'), button: { type: 'integer', minimum: 1, maximum: 200 } },
      run: (twin, { keypad, button }) => {
        const id = idOf(twin, 'keypad', keypad);
        return ask(twin, `#DEVICE,${id},${button},3`, { match: `DEVICE,${id},${button},3`, then: `#DEVICE,${id},${button},4` });
      },
    },
    refresh: { title: 'Ask for everything now', safe: true, idempotent: true, run: (twin) => { if (idle(twin)) look(twin); } },
    send: {
      title: 'Send any command of the protocol', output: 'string',
      input: { command: { type: 'string', minLength: 2, maxLength: 100, pattern: '^[#?][A-Z]+[^\\r\\n]*$' } },
      run: (twin, { command }) => ask(twin, command, { match: command.split(',').slice(0, 2).join(',').slice(1), tell: true }),
    },
  },

  events: {
    button: { title: 'A button was used', data: { keypad: 'string', button: 'integer', action: { type: 'string', enum: Object.values(BUTTONS) } } },
    led: { title: 'A light of a keypad changed', data: { keypad: 'string', component: 'integer', state: 'integer' } },
  },

  load(twin) {
    for (const kind of ['zone', 'area']) if (twin.settings[kind]) idOf(twin, kind, twin.settings[kind]);
    const properties = {};
    for (const zone of Object.keys(twin.settings.zones)) {
      properties[`${zone}_level`] = percent(`Level of ${zone}`);
      properties[`${zone}_on`] = { type: 'boolean', title: `${zone} on` };
    }
    for (const area of Object.keys(twin.settings.areas)) {
      properties[`${area}_scene`] = { type: 'string', title: `Scene of ${area}`, maxLength: 64 };
      properties[`${area}_occupied`] = { type: 'boolean', title: `Somebody in ${area}`, readOnly: true };
    }
    if (Object.keys(properties).length) twin.describe({ properties });
    twin.every('poll', `${twin.settings.poll_s}s`);
    if (idle(twin)) look(twin); // other settings, or another version, on a session that goes on
  },

  connected: begin,
  disconnected: begin,

  set(twin, property, value) {
    const [, of, what] = /^(.+)_(level|on|scene)$/.exec(property) ?? [];
    if (what === 'scene') return recall(twin, of, value);
    if (!what) throw new Refusal(`${property} cannot be set`, { code: 2 });
    return dim(twin, of, what === 'level' ? value : value ? 100 : 0);
  },

  received(twin, chunk) {
    for (const token of cut(twin, chunk)) take(twin, token);
  },

  answers: {
    // A command has been taken when its echo comes, or a prompt with nothing said before it.
    reply(twin, chunk, want) {
      let done;
      for (const token of cut(twin, chunk)) {
        const mine = twin.memory.last === want.command && !done;
        const error = mine && /^~ERROR,(\d+)/.exec(token.line ?? '');
        if (error) throw refusal(Number(error[1]));
        take(twin, token);
        if (mine && token.line && `${token.line},`.startsWith(`~${want.match},`)) done = token.line;
        if (mine && token.bare && !want.command.startsWith('?')) done = 'taken';
      }
      if (!done) return twin.wait();
      if (want.then) return ask(twin, want.then, { match: want.then.slice(1) });
      return want.tell ? done : undefined;
    },
  },

  timers: {
    poll(twin) {
      if (idle(twin)) look(twin);
    },
    next(twin) {
      const { memory } = twin;
      const command = memory.out?.shift();
      if (command === undefined) memory.pause = false;
      else speak(twin, command);
    },
  },
});

// --- what is said

function begin(twin) {
  twin.cancel('next');
  Object.assign(twin.memory, { state: '', buffer: '', said: false, out: [], pause: false, last: '' });
}

const idle = ({ memory }) => memory.state === 'in' && memory.out.length === 0;

// say keeps the pause between commands, and all of them until the login is done; urgent ones go first.
function say(twin, command, urgent = false) {
  const { memory } = twin;
  memory.out ??= [];
  if (memory.state === 'in' && !memory.pause) return speak(twin, command);
  memory.out = memory.out.filter((c) => c !== command);
  if (urgent) memory.out.unshift(command);
  else memory.out.push(command);
}

function speak(twin, command) {
  twin.send(`${command}\r\n`);
  twin.memory.last = command;
  twin.memory.pause = true;
  twin.after('next', PAUSE);
}

function ask(twin, command, want) {
  if (twin.memory.state === 'refused') throw new Refusal('the device takes neither login nor password', { code: 3 });
  say(twin, command, true);
  return twin.wait('reply', { command, ...want });
}

function look(twin) {
  say(twin, `?MONITORING,${MONITORED.zones}`); // also where there is no zone: it tells that the device is there
  for (const id of Object.values(twin.settings.zones)) say(twin, `?OUTPUT,${id},1`);
  for (const id of Object.values(twin.settings.areas)) say(twin, `?AREA,${id},6`);
}

const setting = (kind) => `${kind}s`;

function idOf(twin, kind, of) {
  const known = twin.settings[setting(kind)];
  if (Object.hasOwn(known, of)) return known[of];
  throw new Refusal(`there is no ${kind} ${of}; there ${Object.keys(known).length ? `are ${Object.keys(known).join(', ')}` : 'are none'} in the setting ${setting(kind)}`, { code: 2 });
}

const nameOf = (twin, kind, id) => Object.entries(twin.settings[setting(kind)]).find(([, n]) => n === id)?.[0];

function main(twin, kind, must = true) {
  const of = twin.settings[kind] || Object.keys(twin.settings[setting(kind)]).sort()[0];
  if (of === undefined && must) throw new Refusal(`there is no ${kind}: the setting ${setting(kind)} is empty`, { code: 2 });
  return of;
}

// time is SS or SS.ss in quarters of a second, or HH:MM:SS.
function time(seconds) {
  if (seconds < 59.5) return String(Math.round(seconds * 4) / 4);
  const whole = Math.round(seconds);
  return [whole / 3600, (whole / 60) % 60, whole % 60].map((n) => String(Math.floor(n)).padStart(2, '0')).join(':');
}

const levelText = (level, seconds) => Number(level.toFixed(2)) + (seconds === undefined ? '' : `,${time(seconds)}`);

function dim(twin, zone, level, seconds) {
  const id = idOf(twin, 'zone', zone);
  return ask(twin, `#OUTPUT,${id},1,${levelText(level, seconds)}`, { match: `OUTPUT,${id},1` });
}

function move(twin, zone, action) {
  const id = idOf(twin, 'zone', zone);
  return ask(twin, `#OUTPUT,${id},${action}`, { match: `OUTPUT,${id},${action}` });
}

function fadeArea(twin, level, seconds) {
  const id = idOf(twin, 'area', main(twin, 'area'));
  return ask(twin, `#AREA,${id},1,${levelText(level, seconds)}`, { match: `AREA,${id},1` });
}

function recall(twin, area, scene) {
  const id = idOf(twin, 'area', area), { scenes } = twin.settings;
  const number = Object.hasOwn(scenes, scene) ? scenes[scene] : /^\d{1,5}$/.test(scene) ? Number(scene) : undefined;
  if (number === undefined) throw new Refusal(`there is no scene ${scene}; there are numbers and ${Object.keys(scenes).join(', ') || 'no names'}`, { code: 2 });
  return ask(twin, `#AREA,${id},6,${number}`, { match: `AREA,${id},6` });
}

const refusal = (number) => new Refusal(ERRORS[number] ?? `the device answers ERROR,${number}`, { code: 100 + number });

// --- what is heard

// cut makes lines and prompts of a piece of the stream, and remembers what is not whole yet. A prompt is bare where no line came
// since the one before.
function cut(twin, chunk) {
  const { memory } = twin, tokens = [];
  const text = (memory.buffer ?? '') + chunk.replace(/\0/g, '');
  let end = 0;
  for (const found of text.matchAll(/[\r\n]|[GQ]NET>|\blogin:|\bpassword:/gi)) {
    const before = text.slice(end, found.index).trim(), mark = found[0].toLowerCase();
    end = found.index + mark.length;
    if (before) {
      memory.said = true;
      tokens.push({ line: before.slice(Math.max(0, before.lastIndexOf('~'))) }); // garbage may stand before it
    }
    if (mark.trim() === '') continue;
    tokens.push({ prompt: mark, bare: !memory.said && mark.endsWith('>') });
    memory.said = false;
  }
  memory.buffer = text.slice(end).trimStart().slice(-512);
  return tokens;
}

function take(twin, { line, prompt }) {
  if (prompt === 'login:') login(twin);
  else if (prompt === 'password:') {
    twin.send(`${twin.settings.password}\r\n`);
    twin.memory.state = 'password';
  } else if (prompt) ready(twin);
  else hear(twin, line);
}

// login answers the first prompt; a second one says that the device did not like what it was told.
function login(twin) {
  const { memory } = twin;
  if (memory.state === 'refused') return;
  if (memory.state === 'password') {
    memory.state = 'refused';
    memory.out = [];
    console.error('the device takes neither login nor password: correct the settings login and password');
    return;
  }
  twin.send(`${twin.settings.login}\r\n`);
  memory.state = 'login';
}

function ready(twin) {
  const { memory } = twin;
  if (memory.state === 'in') return;
  memory.state = 'in';
  const waiting = memory.out?.splice(0) ?? [];
  for (const command of waiting) say(twin, command);
  for (const type of Object.values(MONITORED)) say(twin, `#MONITORING,${type},1`);
  look(twin);
}

function hear(twin, line) {
  for (const [pattern, found] of LINES) {
    const parts = pattern.exec(line);
    if (parts) {
      found(twin, ...parts.slice(1).map(Number));
      return;
    }
  }
  if (line !== twin.memory.last) console.debug('not understood:', line.slice(0, 100)); // some echo what they were told
}

const LINES = [
  [/^~OUTPUT,(\d+),1,(\d+(?:\.\d+)?)$/, zoneIs],
  [/^~AREA,(\d+),6,(\d+)$/, sceneIs],
  [/^~AREA,(\d+),8,([34])$/, (twin, id, state) => { const area = nameOf(twin, 'area', id); if (area) twin.report(`${area}_occupied`, state === 3); }],
  [/^~AREA,(\d+),1,(\d+(?:\.\d+)?)$/, (twin, id, level) => { const area = nameOf(twin, 'area', id); if (area && area === main(twin, 'area', false)) twin.report('level', Math.min(100, level)); }],
  [/^~DEVICE,(\d+),(\d+),(3|4|5|6|32)$/, (twin, id, button, action) => twin.emit('button', { keypad: nameOf(twin, 'keypad', id) ?? String(id), button, action: BUTTONS[action] })],
  [/^~DEVICE,(\d+),(\d+),9,(\d+)$/, (twin, id, component, state) => twin.emit('led', { keypad: nameOf(twin, 'keypad', id) ?? String(id), component, state })],
  [/^~MONITORING,(\d+),([12])$/, (twin, type, state) => { if (state === 2 && Object.values(MONITORED).includes(type)) say(twin, `#MONITORING,${type},1`); }],
  [/^~ERROR,(\d+)$/, (twin, number) => console.warn(`${twin.memory.last || 'the device'}: ${ERRORS[number] ?? `ERROR,${number}`}`)],
  [/^~(OUTPUT|AREA|DEVICE|GROUP|SYSTEM),/, () => {}], // what no property is about
];

function zoneIs(twin, id, level) {
  const zone = nameOf(twin, 'zone', id), percent = Math.min(100, level);
  if (!zone) return;
  twin.report({ [`${zone}_level`]: percent, [`${zone}_on`]: percent > 0 });
  if (zone === main(twin, 'zone', false)) twin.report({ brightness: percent, on: percent > 0 });
}

function sceneIs(twin, id, number) {
  const area = nameOf(twin, 'area', id);
  if (!area) return;
  const scene = Object.entries(twin.settings.scenes).find(([, n]) => n === number)?.[0] ?? String(number);
  twin.report(`${area}_scene`, scene);
  if (area === main(twin, 'area', false)) twin.report('scene', scene);
}
