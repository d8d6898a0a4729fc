// @ts-check
/// <reference path="./pollux.d.ts" />

// A lamp that talks in lines over TCP. It answers "POWER?", "POWER ON" and "POWER OFF" with "POWER=ON" or "POWER=OFF", or
// with "ERROR" and a reason, and says "POWER=..." by itself when somebody presses its switch.

export default driver({
  name: '{{.Name}}',
  version: '0.1.0',
  title: '{{.Title}}',
  transport: { scheme: 'tcp', default_port: 4000, tokenizer: { delimiter: '\r\n' } },

  settings: {
    poll_s: { type: 'integer', title: 'Seconds between two looks', minimum: 1, maximum: 3600, default: 30 },
  },

  properties: {
    power: {
      type: 'boolean',
      title: 'Power',
      set(twin, on) {
        twin.send(`POWER ${on ? 'ON' : 'OFF'}\r\n`);
        return twin.wait('done');
      },
    },
  },

  connected(twin) {
    twin.every('poll', twin.settings.poll_s * 1000);
    twin.send('POWER?\r\n');
  },

  disconnected(twin) {
    twin.cancel('poll');
  },

  timers: {
    poll: (twin) => twin.send('POWER?\r\n'),
  },

  received: line,

  answers: {
    // done takes the device's answer to the command that waits.
    done(twin, text) {
      if (text.startsWith('ERROR ')) throw new Refusal(text.slice(6), { code: 2 });
      line(twin, text);
    },
  },
});

// line takes what the device says.
function line(twin, text) {
  const [, power] = /^POWER=(ON|OFF)$/.exec(text) ?? [];
  if (!power) return console.warn('not understood:', text);
  twin.report({ power: power === 'ON' });
}
