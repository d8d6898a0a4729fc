// Extron switchers and matrix switchers, by Simple Instruction Set (SIS) over TCP. See README.md.

const ESC = '\x1b';
const TAGGED = `${ESC}3CV\r`; // verbose mode 3, of this connection
const ERRORS = {
  1: 'no such input', 10: 'the device does not know this command', 11: 'no such preset', 12: 'no such output', 13: 'a value is out of range',
  14: 'not possible in this configuration', 17: 'not possible with this signal', 22: 'busy', 24: 'the password does not allow this',
  25: 'the device is not there', 26: 'the device has too many connections',
};
const PASSING = [17, 22, 26];

export default driver({
  name: 'extron',
  version: '1.0.0',
  title: 'Extron switcher',
  description: 'Switchers and matrix switchers of Extron that speak SIS over TCP, such as DTP CrossPoint, DXP and IN1600.',
  transport: { scheme: 'tcp', default_port: 23, tokenizer: { delimiter: '\r\n', max_frame: 1024 }, idle_timeout_ms: 90_000, per_command_if: '{per_command}' },
  interfaces: ['InputSelectable', 'Muteable', 'Volume'],

  settings: {
    password: { type: 'string', title: 'Password', writeOnly: true, maxLength: 64, default: '', description: 'Of the administrator or user; empty where the device has none.' },
    output: { type: 'integer', title: 'Main output', minimum: 1, maximum: 256, default: 1, description: 'The output that `input` and the mutes are about.' },
    outputs: { type: 'integer', title: 'Outputs', minimum: 1, maximum: 64, default: 1, description: '1: a switcher. From 2 on a matrix switcher, with properties output_1, output_2 …' },
    inputs: {
      type: 'object', title: 'Names of inputs', default: {}, maxProperties: 64,
      description: 'Such as {"laptop": 3}. Others are called by their number.',
      propertyNames: { pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$' }, additionalProperties: { type: 'integer', minimum: 1, maximum: 256 },
    },
    poll_s: { type: 'integer', title: 'Poll interval in seconds', minimum: 2, maximum: 60, default: 20 },
    per_command: { type: 'boolean', title: 'Connection per command', default: false, description: 'Connects for what it says and lets go after 2 s: for devices that have few connections.' },
  },

  properties: {
    input: { type: 'string', title: 'Input', maxLength: 64, set: (twin, name) => ask(twin, tie(twin, name, twin.settings.output), reOut(twin.settings.output)) },
    mute: { type: 'boolean', title: 'Picture and sound muted', set: (twin, on) => ask(twin, mute(twin, 'B', on) + mute(twin, 'Z', on), /^Amt/) },
    mute_video: { type: 'boolean', title: 'Picture muted', set: (twin, on) => ask(twin, mute(twin, 'B', on), /^Vmt/) },
    mute_audio: { type: 'boolean', title: 'Sound muted', set: (twin, on) => ask(twin, mute(twin, 'Z', on), /^Amt/) },
    volume: { type: 'number', title: 'Volume', unit: '%', minimum: 0, maximum: 100, set: (twin, percent) => ask(twin, `${only(twin, '*')}${Math.round(percent)}V`, /^Vol/) },
    part_number: { type: 'string', title: 'Part number' },
    firmware: { type: 'string', title: 'Firmware' },
    size: { type: 'string', title: 'Inputs and outputs' },
  },

  actions: {
    route: {
      title: 'Tie an input to an output',
      input: { input: { type: 'string', minLength: 1, maxLength: 64 }, output: { type: 'integer', minimum: 0, maximum: 256, default: 0, description: '0: all outputs' } },
      run: (twin, { input, output = 0 }) => ask(twin, tie(twin, input, output), output ? reOut(output) : /^(In\d+ All|Out\d+ In\d+ All)$/),
    },
    preset: { title: 'Recall a preset', input: { number: { type: 'integer', minimum: 1, maximum: 64 } }, run: (twin, { number }) => ask(twin, `${number}.`, /^Rpr/) },
    save: { title: 'Save a preset', input: { number: { type: 'integer', minimum: 1, maximum: 64 } }, run: (twin, { number }) => ask(twin, `${number},`, /^Spr/) },
    lock: { title: 'Lock the front panel', input: 'boolean', run: (twin, on) => ask(twin, `${flag(on)}X`, /^Exe/) },
    refresh: { title: 'Ask for everything now', safe: true, idempotent: true, run: (twin) => { look(twin); } },
    send: {
      title: 'Send any SIS command', input: { command: { type: 'string', minLength: 1, maxLength: 100, pattern: '^[^\\r\\n]+$' } }, output: 'string',
      run: (twin, { command }) => ask(twin, command, /./),
    },
  },

  load(twin) {
    if (twin.settings.per_command && twin.settings.password) throw new Refusal('per_command and password do not go together: the device asks for it on each connection', { code: 4 });
    twin.every('poll', `${twin.settings.poll_s}s`);
    const { outputs } = twin.settings;
    if (outputs > 1) {
      const properties = {};
      for (let n = 1; n <= outputs; n++) properties[`output_${n}`] = { title: `Input at output ${n}`, type: 'string', readOnly: true };
      twin.describe({ properties });
    }
  },

  // The device greets with its copyright; with a password it asks for it first, without an end of line.
  connected(twin) {
    if (twin.settings.password) twin.send(`${twin.settings.password}\r`);
    if (!twin.settings.per_command) twin.send(TAGGED);
    look(twin);
  },

  received: line,

  answers: {
    reply(twin, text, want) {
      const error = /^E(\d\d)$/.exec(text);
      if (error) throw refusal(Number(error[1]));
      line(twin, text);
      if (!new RegExp(want).test(text)) return twin.wait();
      if (want === '.' && text === 'Vrb3' && twin.settings.per_command) return twin.wait(); // what went before the command
      return want === '.' ? text : undefined;
    },
  },

  timers: {
    poll(twin) {
      try {
        look(twin);
      } catch (error) {
        if (error.reason !== 'disconnected') throw error;
      }
    },
  },
});

const flag = (on) => (on ? 1 : 0);
const isMatrix = (twin) => twin.settings.outputs > 1;
// only names the main output, with what is to follow it; a switcher has no others, and takes no number.
const only = (twin, then = '') => (isMatrix(twin) ? `${twin.settings.output}${then}` : '');
const mute = (twin, what, on) => `${only(twin, '*')}${flag(on)}${what}`;
const reOut = (output) => new RegExp(`^(Out0*${output} )?In\\d+ (All|Vid|RGB)$`);

// prefix begins what may be the first on a connection of its own.
const prefix = (twin) => (twin.settings.per_command ? TAGGED : '');

// ask sends a command, which SIS ends by its last letter, and waits for the line that answers it.
function ask(twin, command, want) {
  twin.send(prefix(twin) + (command.startsWith(ESC) ? `${command}\r` : command));
  return twin.wait('reply', want.source);
}

function tie(twin, name, output) {
  const input = twin.settings.inputs[name] ?? Number(name);
  if (!Number.isInteger(input) || input < 0 || input > 256) {
    throw new Refusal(`there is no input ${name}; there are numbers and ${Object.keys(twin.settings.inputs).join(', ') || 'no names'}`, { code: 2 });
  }
  if (!isMatrix(twin)) return `${input}!`;
  return output ? `${input}*${output}!` : `${input}*!`;
}

const inputName = (twin, number) => Object.entries(twin.settings.inputs).find(([, n]) => n === number)?.[0] ?? String(number);

function refusal(code) {
  return new Refusal(ERRORS[code] ?? `the device answers E${String(code).padStart(2, '0')}`, { code: 100 + code, retryable: PASSING.includes(code) });
}

// look asks for everything; the answers are tagged (verbose mode 3).
function look(twin) {
  twin.send(prefix(twin) + ['N', 'Q', 'I', 'B', 'Z', 'V'].map((what) => (/[BZV]/.test(what) ? only(twin) : '') + what).join(''));
  if (!isMatrix(twin)) twin.send('!');
  else for (let n = 1; n <= twin.settings.outputs; n++) twin.send(`${n}!`);
}

// line takes an answer, or what the device tells by itself: both look alike.
function line(twin, text) {
  for (const [pattern, take] of LINES) {
    const found = pattern.exec(text);
    if (found) {
      take(twin, found);
      return;
    }
  }
  if (text && !/^(\(c\)|Password:|Vrb|Exe|\w{3}, \d)/i.test(text)) console.debug('not understood:', text.slice(0, 100));
}

const LINES = [
  [/^(?:Out(\d+) )?In(\d+) (?:All|Vid|RGB)$/, (twin, [, out, input]) => tied(twin, out === undefined ? undefined : Number(out), Number(input))],
  [/^Vmt(?:(\d+)\*)?([0-2])$/, (twin, [, out, on]) => muted(twin, 'mute_video', out, on)],
  [/^Amt(?:(\d+)\*)?([01])$/, (twin, [, out, on]) => muted(twin, 'mute_audio', out, on)],
  [/^Vol(?:(\d+)\*)?(\d{1,3})$/, (twin, [, out, n]) => { if (out === undefined || Number(out) === twin.settings.output) twin.report('volume', Math.min(100, Number(n))); }],
  [/^(?:Pno)?(60-\d+-\d+\w*)$/, (twin, [, part]) => twin.report('part_number', part)],
  [/^(?:Ver\d*\*)?(\d+\.\d+\w*)$/, (twin, [, version]) => twin.report('firmware', version)],
  [/^(?:Inf\d*\*)?(V\d+X\d+ A\d+X\d+.*)$/, (twin, [, size]) => twin.report('size', size)],
  [/^Rpr(\d+)$/, (twin) => look(twin)],
  [/^Login (Administrator|User)$/, () => {}],
  [/^E(\d\d)$/, (twin, [, code]) => console.debug('the device answers:', ERRORS[Number(code)] ?? `E${code}`)],
];

function tied(twin, output, input) {
  const name = inputName(twin, input), { outputs } = twin.settings;
  if (output === undefined || output === twin.settings.output) twin.report('input', name);
  if (outputs > 1) {
    for (let n = 1; n <= outputs; n++) if (output === undefined || output === n) twin.report(`output_${n}`, name);
  }
}

function muted(twin, property, output, on) {
  if (output !== undefined && Number(output) !== twin.settings.output) return;
  twin.report(property, on !== '0');
  const state = twin.state;
  if (typeof state.mute_video === 'boolean' && typeof state.mute_audio === 'boolean') twin.report('mute', state.mute_video && state.mute_audio);
}
