// @ts-check
/// <reference path="./pollux.d.ts" />

// A kettle that talks in lines over TCP. It answers "GET TEMP" with "TEMP 21.5", "SET TARGET 80" with "OK" or "ERR" and a
// reason, and says "BOILED" by itself.

export default driver({
  name: 'kettle',
  version: '1.0.0',
  title: 'Kettle',
  transport: { scheme: 'tcp', default_port: 4001, tokenizer: { delimiter: '\n' } },

  properties: {
    temperature: { type: 'number', title: 'Temperature', unit: 'degree celsius' },
    target: {
      type: 'integer',
      title: 'Target temperature',
      unit: 'degree celsius',
      minimum: 40,
      maximum: 100,
      set(twin, degrees) {
        twin.send(`SET TARGET ${degrees}\n`);
        return twin.wait('accepted', degrees);
      },
    },
  },

  events: { boiled: { title: 'The water boils' } },

  connected(twin) {
    twin.every('poll', '5s');
    twin.send('GET TEMP\n');
  },

  disconnected: (twin) => twin.cancel('poll'),

  timers: { poll: (twin) => twin.send('GET TEMP\n') },

  received: line,

  answers: {
    accepted(twin, text, degrees) {
      if (text.startsWith('ERR ')) throw new Refusal(text.slice(4), { code: 2 });
      if (text === 'OK') return twin.report('target', degrees);
      line(twin, text);
      return twin.wait();
    },
  },
});

function line(twin, text) {
  const [, degrees] = /^TEMP (-?\d+\.\d)$/.exec(text) ?? [];
  if (degrees) twin.report('temperature', Number(degrees));
  else if (text === 'BOILED') twin.emit('boiled');
  else console.warn('not understood:', text);
}
