// The thermostat is the example driver of all SDKs, here in JavaScript. What it does is in drivers/conformance/README.md.

export default driver({
  name: 'thermostat',
  version: '1.0.0',
  title: 'TH-1 thermostat',
  description: 'The example that every SDK has: a made-up thermostat that talks in lines over TCP.',
  transport: { scheme: 'tcp', default_port: 4070, tokenizer: { delimiter: '\r\n', max_frame: 1024 } },
  http: { hosts: ['{weather}'] },
  capabilities: ['call', 'subscribe'],

  settings: {
    pin: { type: 'string', title: 'PIN', writeOnly: true, maxLength: 16, default: '' },
    poll_s: { type: 'integer', title: 'Seconds between two looks', minimum: 1, maximum: 3600, default: 30 },
    zone: { type: 'string', title: 'Time zone of the night', default: 'UTC' },
    outdoor: { type: 'string', title: 'Twin that knows the outdoor temperature', default: '' },
    display: { type: 'string', title: 'Twin that shows texts', default: '' },
    weather: { type: 'string', title: 'URL of a weather service', default: '' },
  },

  properties: {
    power: { type: 'boolean', title: 'Power', set: (twin, on) => ask(twin, `POWER ${on ? 'ON' : 'OFF'}`, { ok: 'OK POWER ' }) },
    temperature: { type: 'number', title: 'Temperature', unit: 'degree celsius' },
    setpoint: {
      type: 'number', title: 'Setpoint', unit: 'degree celsius', minimum: 5, maximum: 30,
      set: (twin, degrees) => ask(twin, `SET ${degrees.toFixed(1)}`, { ok: 'OK SET ' }),
    },
    outdoor: { type: 'number', title: 'Outdoor temperature', unit: 'degree celsius' },
    forecast: { type: 'number', title: 'Forecast', unit: 'degree celsius' },
    boosts: { type: 'integer', title: 'Boosts' },
  },

  actions: {
    boost: {
      title: 'Heat up for some minutes',
      input: { minutes: { type: 'integer', minimum: 1, maximum: 120 } },
      output: { minutes: 'integer', boosts: 'integer' },
      run: (twin, { minutes }) => ask(twin, `BOOST ${minutes}`, { minutes, ok: 'OK BOOST ' }),
    },
    vacation: {
      title: 'Keep it cool until then',
      input: { until: { type: 'integer', minimum: 1, description: 'milliseconds since 1970' } },
      run(twin, { until }) {
        const { setpoint } = twin.state;
        if (setpoint === undefined || setpoint === null) throw new Refusal('the setpoint is not known yet', { code: 11 });
        return ask(twin, 'SET 12.0', { until, setpoint, ok: 'OK SET ' });
      },
    },
    forecast: {
      title: 'Ask the weather service',
      output: 'number',
      async run(twin) {
        const { weather } = twin.settings;
        if (!weather) throw new Refusal('no weather service is set', { code: 13 });
        const answer = await twin.fetch(weather, { headers: { accept: 'application/json' }, timeout: '3s' });
        if (answer.status !== 200) throw new Refusal(`the weather service answers ${answer.status}`, { code: 12, retryable: true });
        const high = highOf(answer);
        if (typeof high !== 'number') throw new Refusal('the weather service\'s answer has no number "high"', { code: 14 });
        twin.report('forecast', high);
        return high;
      },
    },
    announce: {
      title: 'Show a text on the display',
      input: { text: { type: 'string', maxLength: 200 } },
      async run(twin, { text }) {
        const { display } = twin.settings;
        if (!display) throw new Refusal('no display is set', { code: 13 });
        try {
          await twin.other(display).call('show', { text });
        } catch (error) {
          if (!(error instanceof TwinError)) throw error;
          throw new Refusal(error.message, { code: 15, retryable: error.code === 'timeout' || error.code === 'unavailable' });
        }
      },
    },
  },

  events: {
    alarm: { title: 'Alarm', data: { text: 'string' } },
    boosted: { title: 'A boost is over', data: { minutes: 'integer' } },
  },

  load(twin) {
    const { poll_s, zone, outdoor } = twin.settings;
    twin.every('poll', poll_s * 1000);
    twin.cron('night', '0 22 * * *', zone);
    if (outdoor) twin.other(outdoor).subscribe('temperature');
  },

  connected(twin) {
    const { pin } = twin.settings;
    if (pin) twin.send(`LOGIN ${pin}\r\n`);
    twin.send('STATUS?\r\n');
  },

  received: line,

  answers: {
    // device takes lines until one answers the command; the others are handled as ever.
    device(twin, text, command) {
      if (text.startsWith('ERR ')) throw refusalOf(text.slice(4));
      if (command.minutes && text.startsWith('CONFIRM ')) {
        return ask(twin, `BOOST ${command.minutes} ${text.slice(8)}`, command);
      }
      line(twin, text);
      if (!text.startsWith(command.ok)) return twin.wait();
      if (command.minutes) return boosted(twin, command.minutes);
      if (command.until) twin.at('home', command.until, { setpoint: command.setpoint });
      return undefined;
    },
  },

  timers: {
    poll: (twin) => quietly(() => twin.send('STATUS?\r\n')),
    night: (twin) => quietly(() => twin.send('SET 17.0\r\n')),
    boosted(twin, { minutes }) {
      twin.emit('boosted', { minutes });
      quietly(() => twin.send('STATUS?\r\n'));
    },
    home(twin, { setpoint }) {
      if (!quietly(() => twin.send(`SET ${setpoint.toFixed(1)}\r\n`))) twin.after('home', '1m', { setpoint });
    },
  },

  changed(twin, { value, quality }) {
    twin.report('outdoor', typeof value === 'number' ? value : null, { quality });
  },

  webhook(twin, { method }) {
    if (method !== 'GET') return { status: 405 };
    const { temperature = null, setpoint = null } = twin.state;
    return { status: 200, body: { temperature, setpoint } };
  },

  migrate(twin, from) {
    if (from.startsWith('0.')) twin.memory = { boosts: twin.memory.boost_count ?? 0 };
  },
});

function ask(twin, command, wait) {
  twin.send(`${command}\r\n`);
  return twin.wait('device', wait);
}

// quietly lets it pass that the device is not there, and tells.
function quietly(send) {
  try {
    send();
    return true;
  } catch (error) {
    if (error.reason !== 'disconnected') throw error;
    return false;
  }
}

function refusalOf(text) {
  const [, code, message] = /^([1-9]) (.*)$/.exec(text) ?? [null, '1', text];
  return new Refusal(message, { code: Number(code), retryable: code === '3' });
}

function boosted(twin, minutes) {
  const boosts = (twin.memory.boosts ?? 0) + 1;
  twin.memory.boosts = boosts;
  twin.report('boosts', boosts);
  twin.after('boosted', minutes * 60_000, { minutes });
  return { minutes, boosts };
}

function highOf(answer) {
  try {
    return answer.json()?.high;
  } catch {
    return undefined;
  }
}

// line handles what the device says.
function line(twin, text) {
  const [word, ...rest] = text.split(' ');
  const say = { STATUS: status, TEMP: temperature, OK: ok, HELLO: hello, ALARM: alarm, NEIGHBOUR: neighbour, ERR: err }[word];
  if (!say?.(twin, rest.join(' '))) console.warn('not understood:', text.slice(0, 80));
}

function alarm(twin, text) {
  twin.emit('alarm', { text });
  return true;
}

function err(twin, text) {
  console.warn('device:', refusalOf(text).message);
  return true;
}

function ok(twin, text) {
  if (text === 'LOGIN') return true;
  const [what, value] = text.split(' ');
  if (what === 'BOOST') return true;
  if (what === 'POWER' && (value === 'on' || value === 'off')) {
    twin.report('power', value === 'on');
    return true;
  }
  if (what !== 'SET' || decimal(value) === undefined) return false;
  twin.report('setpoint', decimal(value));
  return true;
}

function status(twin, text) {
  const fields = Object.fromEntries(text.split(' ').map((field) => field.split('=')));
  const setpoint = decimal(fields.set), humidity = decimal(fields.hum);
  if (!['on', 'off'].includes(fields.power) || setpoint === undefined || (fields.hum !== undefined && humidity === undefined)) return false;
  if (!temperature(twin, fields.temp)) return false;
  twin.report({ power: fields.power === 'on', setpoint, ...(humidity === undefined ? {} : { humidity }) });
  return true;
}

function temperature(twin, text = '') {
  if (text === '--') {
    twin.report('temperature', null);
    return true;
  }
  const value = decimal(text.replace(/\?$/, ''));
  if (value === undefined) return false;
  twin.report('temperature', value, { quality: text.endsWith('?') ? 'bad' : 'good' });
  return true;
}

function hello(twin, text) {
  const [model, ...options] = text.split(' ');
  if (model === 'TH-1' && options.includes('humidity')) {
    twin.describe({ properties: { humidity: { type: 'integer', title: 'Humidity', unit: 'percent', readOnly: true } } });
  }
  return true;
}

function neighbour(twin, serial) {
  twin.discover({ network: 'th1', key: 'serial', value: serial, name: `TH-1 ${serial}`, driver: 'thermostat' });
  return true;
}

function decimal(text) {
  return /^-?\d+(\.\d+)?$/.test(text ?? '') ? Number(text) : undefined;
}
