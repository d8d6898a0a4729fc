// Cameras that speak VISCA over IP, as Sony's do. See README.md.

export default driver({
  name: 'visca',
  version: '1.0.1',
  title: 'VISCA camera',
  description: 'Pan-tilt-zoom cameras with VISCA over IP (UDP 52381), such as Sony SRG, BRC and EVI-H series.',
  transport: { scheme: 'udp', default_port: 52381, idle_timeout_ms: 30_000 },
  frames: 'bytes',
  interfaces: ['Powerable', 'Camera'],

  settings: {
    presets: {
      type: 'object', title: 'Names of positions', default: {}, maxProperties: 64,
      description: 'Such as {"speaker": 0}. Others are called by their number, 0 to 15 (some models: 255).',
      propertyNames: { pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$' }, additionalProperties: { type: 'integer', minimum: 0, maximum: 255 },
    },
    poll_s: { type: 'integer', title: 'Poll interval in seconds', minimum: 2, maximum: 25, default: 10 },
    address: { type: 'integer', title: 'VISCA address', minimum: 1, maximum: 7, default: 1 },
  },

  properties: {
    power: { type: 'boolean', title: 'Power', set: (twin, on) => command(twin, [0x04, 0x00, on ? 2 : 3]) },
    preset: { type: 'string', title: 'Position called last' },
    zoom: { type: 'number', title: 'Zoom', unit: '%', minimum: 0, maximum: 100, set: (twin, percent) => command(twin, [0x04, 0x47, ...nibbles(Math.round(percent * 163.84))]) },
    pan: { type: 'integer', title: 'Pan, in the camera\'s own steps' },
    tilt: { type: 'integer', title: 'Tilt, in the camera\'s own steps' },
    autofocus: { type: 'boolean', title: 'Focuses by itself', set: (twin, on) => command(twin, [0x04, 0x38, on ? 2 : 3]) },
  },

  actions: {
    move: {
      title: 'Move until stop',
      input: {
        pan: { type: 'number', minimum: -1, maximum: 1, default: 0, description: 'Speed, to the right above 0.' },
        tilt: { type: 'number', minimum: -1, maximum: 1, default: 0, description: 'Speed, up above 0.' },
        zoom: { type: 'number', minimum: -1, maximum: 1, default: 0, description: 'Speed, in above 0.' },
      },
      run(twin, { pan = 0, tilt = 0, zoom = 0 }) {
        send(twin, 0x0100, [0x81, 0x01, ...zoomDrive(zoom), 0xff]);
        return command(twin, panTiltDrive(pan, tilt));
      },
    },
    stop: {
      title: 'Stop moving',
      run(twin) {
        send(twin, 0x0100, [0x81, 0x01, ...zoomDrive(0), 0xff]);
        return command(twin, panTiltDrive(0, 0));
      },
    },
    home: { title: 'Go to the home position', run: (twin) => command(twin, [0x06, 0x04]) },
    recall: { title: 'Go to a position', input: { preset: { type: 'string', minLength: 1, maxLength: 64 } }, run: (twin, { preset }) => command(twin, [0x04, 0x3f, 2, number(twin, preset)], { preset }) },
    save: { title: 'Remember this position', input: { preset: { type: 'string', minLength: 1, maxLength: 64 } }, run: (twin, { preset }) => command(twin, [0x04, 0x3f, 1, number(twin, preset)]) },
  },

  load: (twin) => twin.every('poll', `${twin.settings.poll_s}s`),
  connected: begin,
  received(twin, datagram) {
    lostCount(twin, datagram);
    const m = parse(datagram);
    if (m) inquired(twin, m);
  },
  answers: {
    done(twin, datagram, { sequence, words, preset, report }) {
      if (lostCount(twin, datagram)) return command(twin, words, { preset, report });
      const m = parse(datagram);
      if (!m) return twin.wait();
      if (m.sequence !== sequence) {
        inquired(twin, m);
        return twin.wait();
      }
      const kind = m.body[1] >> 4;
      if (kind === 6) throw refusal(m.body[2]);
      if (kind !== 5) return twin.wait(); // acknowledged; it is on its way
      if (preset) twin.report('preset', preset);
      if (report) twin.report(...report);
      look(twin);
      return undefined;
    },
  },
  timers: {
    poll(twin) {
      twin.memory.anew = false;
      try {
        look(twin);
      } catch (error) {
        if (error.reason !== 'disconnected') throw error;
      }
    },
  },
});

function begin(twin) {
  twin.memory.sequence = 0;
  send(twin, 0x0200, [0x01]); // the next message has number 1
  look(twin);
}

// A camera that was restarted does not know the number that it gets, and says so. Numbers begin anew once between two looks: it may
// say the same of all that was on its way.
function lostCount(twin, datagram) {
  if (datagram.length !== 10 || datagram[0] !== 0x02 || datagram[8] !== 0x0f || datagram[9] !== 0x01 || twin.memory.anew) return false;
  twin.memory.anew = true;
  begin(twin);
  return true;
}

// A message has a type, the length of what it carries and a number, in 8 bytes before that.
function send(twin, type, body) {
  const sequence = type === 0x0200 ? 0 : ((twin.memory.sequence ?? 0) % 0xffffffff) + 1;
  twin.memory.sequence = sequence;
  if (body[0] === 0x81) body[0] = 0x80 + twin.settings.address;
  const message = new Uint8Array(8 + body.length);
  const view = new DataView(message.buffer);
  view.setUint16(0, type);
  view.setUint16(2, body.length);
  view.setUint32(4, sequence);
  message.set(body, 8);
  twin.send(message);
  return sequence;
}

function parse(datagram) {
  if (datagram.length < 11) return undefined;
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const body = datagram.subarray(8);
  if (view.getUint16(0) !== 0x0111 || view.getUint16(2) !== body.length || body[body.length - 1] !== 0xff) return undefined;
  return { sequence: view.getUint32(4), body };
}

function command(twin, words, more = {}) {
  return twin.wait('done', { sequence: send(twin, 0x0100, [0x81, 0x01, ...words, 0xff]), words, ...more });
}

// The inquiries of a round, by the number of the first; an answer is told from another by its number.
const INQUIRIES = [
  ['power', [0x04, 0x00], (twin, [state]) => twin.report('power', state === 2)],
  ['zoom', [0x04, 0x47], (twin, words) => twin.report('zoom', Math.round(Math.min(100, word(words) / 163.84) * 10) / 10)],
  ['position', [0x06, 0x12], (twin, words) => twin.report({ pan: signed(word(words)), tilt: signed(word(words.subarray(4))) })],
  ['focus', [0x04, 0x38], (twin, [state]) => twin.report('autofocus', state === 2)],
];
const SIZES = { power: 1, zoom: 4, position: 8, focus: 1 };

function look(twin) {
  const asked = {};
  for (const [name, words] of INQUIRIES) asked[send(twin, 0x0110, [0x81, 0x09, ...words, 0xff])] = name;
  twin.memory.asked = asked;
}

function inquired(twin, { sequence, body }) {
  const name = twin.memory.asked?.[sequence];
  const inquiry = INQUIRIES.find(([known]) => known === name);
  if (!inquiry) return;
  delete twin.memory.asked[sequence];
  if (body[1] === 0x50 && body.length === 3 + SIZES[name]) inquiry[2](twin, body.subarray(2, -1));
}

const word = (words) => ((words[0] & 15) << 12) | ((words[1] & 15) << 8) | ((words[2] & 15) << 4) | (words[3] & 15);
const signed = (n) => (n > 0x7fff ? n - 0x10000 : n);
const nibbles = (n) => [n >> 12 & 15, n >> 8 & 15, n >> 4 & 15, n & 15];

function panTiltDrive(pan, tilt) {
  const speed = (v, most) => Math.max(1, Math.round(Math.abs(v) * most));
  const way = (v, negative, positive) => (v === 0 ? 3 : v < 0 ? negative : positive);
  return [0x06, 0x01, speed(pan, 0x18), speed(tilt, 0x17), way(pan, 1, 2), way(tilt, 2, 1)];
}

function zoomDrive(zoom) {
  const speed = Math.round(Math.abs(zoom) * 7);
  return [0x04, 0x07, zoom === 0 ? 0 : (zoom > 0 ? 0x20 : 0x30) | speed];
}

function number(twin, preset) {
  const n = twin.settings.presets[preset] ?? (/^\d{1,3}$/.test(preset) ? Number(preset) : NaN);
  if (!(n >= 0 && n <= 255)) throw new Refusal(`there is no position ${preset}`, { code: 2 });
  return n;
}

function refusal(code) {
  const [text, retryable] = { 1: ['message length error', false], 2: ['the camera does not know this command', false], 3: ['the camera has too much to do', true],
    4: ['cancelled', true], 5: ['nothing to cancel', false], 0x41: ['not possible now', true] }[code] ?? [`the camera answers error ${code}`, false];
  return new Refusal(text, { code: 100 + code, retryable });
}
